//! What came of it, for people.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use crate::fleet::Fleet;
use crate::journal::Journal;
use crate::ledger::{Breach, Ledger};
use crate::plan::Plan;

/// Offending requests that are named.
const NAMED: usize = 50;

/// Prints the tally; an error says what does not hold.
pub(crate) fn print(
    plan: &Plan,
    ledger: &Ledger,
    journal: &Journal,
    fleet: &Fleet,
    mut broken: Vec<String>,
) -> Result<(), String> {
    eprintln!("\n{} requests", ledger.len());
    let mut outcomes = BTreeMap::new();
    let mut answers = BTreeMap::new();
    for ((door, outcome, entry), count) in ledger.tally() {
        *outcomes.entry((door, outcome)).or_insert(0) += count;
        *answers.entry((door, entry)).or_insert(0) += count;
    }
    for ((door, outcome), count) in outcomes {
        let outcome = outcome.map_or("no outcome".to_owned(), |outcome| format!("{outcome:?}"));
        eprintln!("  {:8} {outcome:12} {count:7}", format!("{door:?}"));
    }
    eprintln!("answers");
    for ((door, entry), count) in answers {
        eprintln!(
            "  {:8} {:12} {count:7}",
            format!("{door:?}"),
            format!("{entry:?}")
        );
    }
    let (retried, handed_over, [median, p99, most]) = ledger.life();
    eprintln!(
        "published after a retry {retried}; handed over {handed_over}; from request to end {median} ms in the \
         median, {p99} ms for 99 of 100, {most} ms at most"
    );
    eprintln!(
        "written more than once by the load itself: {}",
        ledger.copied()
    );
    eprintln!(
        "without an outcome, because their topic was deleted before: {}",
        ledger.deleted_unread()
    );
    print_faults(journal);
    let ended = fleet.ended.lock().unwrap_or_else(PoisonError::into_inner);
    eprintln!("ended by themselves: {} {:?}", ended.len(), *ended);
    for odd in journal.oddities() {
        eprintln!("  {odd}");
    }
    let breaches = ledger.breaches();
    print_breaches(&breaches);
    eprintln!("again with {}", plan.again());
    if !breaches.is_empty() {
        broken.push(format!("{} promises are broken", breaches.len()));
    }
    if broken.is_empty() {
        eprintln!("every request is accounted for");
        return Ok(());
    }
    Err(broken.join("; "))
}

fn print_faults(journal: &Journal) {
    let faults = journal.faults();
    let mut sums = BTreeMap::new();
    for ((whom, _), fault) in &faults {
        *sums.entry(*whom).or_insert(0) += fault.times;
    }
    let all: usize = sums.values().sum();
    eprintln!("{all} faults, by kind, and the longest time without any outcome after one");
    for (whom, sum) in sums {
        eprintln!("  {whom:?} {sum}");
        for ((_, kind), fault) in faults.iter().filter(|((on, _), _)| *on == whom) {
            let silence = fault.silence.as_secs_f64();
            let silence = if silence > 0.0 {
                format!("{silence:.1} s")
            } else {
                String::new()
            };
            eprintln!("    {kind:26} {:5} {silence}", fault.times);
        }
    }
}

fn print_breaches(breaches: &[Breach]) {
    let mut by_promise: BTreeMap<_, Vec<&Breach>> = BTreeMap::new();
    for breach in breaches {
        by_promise.entry(breach.promise).or_default().push(breach);
    }
    for (promise, breaches) in by_promise {
        eprintln!("BROKEN, {promise}: {}", breaches.len());
        for breach in breaches.iter().take(NAMED) {
            eprintln!("  c-{}: {}", breach.request, breach.detail);
        }
    }
}
