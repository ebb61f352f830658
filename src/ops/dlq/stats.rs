//! `user-otp dlq stats`: how many, and why. What is kept does not grow with the topic.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde::Serialize;

use super::{Looked, Looking};
use crate::clock::EpochMs;
use crate::ops::letter::Letter;
use crate::ops::moment::{hour, rfc3339};
use crate::ops::shown::{Lean, Output, Paint, table};
use crate::ops::terminal::Terminal;

/// Tenants, and hours, that are counted apart; strangers choose both. The rest is one figure.
const APART: usize = 2_000;

/// Rows of tenants that a person is shown.
const SHOWN: usize = 20;

/// Why: disposition, code and stage; none: no dead letter of ours.
type Reason = Option<(&'static str, &'static str, &'static str)>;

/// Counts that grow by one record at a time.
#[derive(Debug, Default)]
struct Stats {
    reasons: HashMap<Reason, Count>,
    tenants: HashMap<String, u64>,
    other_tenants: u64,
    no_tenant: u64,
    hours: BTreeMap<EpochMs, u64>,
    other_hours: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    count: u64,
    oldest: Option<EpochMs>,
    newest: Option<EpochMs>,
}

pub(super) fn run(
    looking: Looking<'_>,
    output: Output,
    terminal: &mut Terminal<'_>,
) -> anyhow::Result<i32> {
    let mut stats = Stats::default();
    let looked = looking.each(|letter| {
        stats.add(letter);
        Ok(())
    })?;
    terminal.show(output, &stats.report(looked), |paint| stats.text(paint))?;
    if output == Output::Table {
        terminal.note(&looked.sentence())?;
    }
    Ok(0)
}

impl Stats {
    fn add(&mut self, letter: &Letter) {
        let reason = letter.failure().map(|failure| {
            let words = (failure.disposition, failure.code, failure.stage);
            (words.0.as_str(), words.1.as_str(), words.2.as_str())
        });
        self.reasons
            .entry(reason)
            .or_default()
            .add(letter.written());
        let room = self.tenants.len() < APART;
        match letter.tenant() {
            None => self.no_tenant += 1,
            Some(tenant) => match self.tenants.get_mut(tenant) {
                Some(count) => *count += 1,
                None if room => {
                    self.tenants.insert(tenant.to_owned(), 1);
                }
                None => self.other_tenants += 1,
            },
        }
        match letter.written().map(hour) {
            Some(hour) if self.hours.len() < APART || self.hours.contains_key(&hour) => {
                *self.hours.entry(hour).or_default() += 1;
            }
            Some(_) | None => self.other_hours += 1,
        }
    }

    /// The most frequent first.
    fn by_reason(&self) -> Vec<(Reason, Count)> {
        let mut all: Vec<_> = self
            .reasons
            .iter()
            .map(|(why, count)| (*why, *count))
            .collect();
        all.sort_by_key(|(why, count)| (std::cmp::Reverse(count.count), *why));
        all
    }

    fn by_tenant(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self
            .tenants
            .iter()
            .map(|(tenant, count)| (tenant.as_str(), *count))
            .collect();
        all.sort_by_key(|(tenant, count)| (std::cmp::Reverse(*count), *tenant));
        all
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        let columns = [
            ("DISPOSITION", Lean::Left),
            ("CODE", Lean::Left),
            ("STAGE", Lean::Left),
            ("COUNT", Lean::Right),
            ("OLDEST", Lean::Left),
            ("NEWEST", Lean::Left),
        ];
        let rows = self.by_reason().into_iter().map(|(why, count)| {
            let (disposition, code, stage) = why.unwrap_or(("none of ours", "-", "-"));
            let at = |moment: Option<EpochMs>| moment.map_or_else(|| "-".to_owned(), rfc3339);
            let mut row: Vec<String> = [disposition, code, stage].map(str::to_owned).to_vec();
            row.extend([count.count.to_string(), at(count.oldest), at(count.newest)]);
            row
        });
        text.push_str(&table(&columns, &rows.collect::<Vec<_>>(), paint));
        let tenants = self.by_tenant();
        let mut rows: Vec<_> = tenants
            .iter()
            .take(SHOWN)
            .map(|(tenant, count)| vec![(*tenant).to_owned(), count.to_string()])
            .collect();
        let rest = tenants
            .iter()
            .skip(SHOWN)
            .map(|(_, count)| count)
            .sum::<u64>();
        add_row(&mut rows, "(others)", rest + self.other_tenants);
        add_row(&mut rows, "(none, or not valid)", self.no_tenant);
        let columns = [("TENANT", Lean::Left), ("COUNT", Lean::Right)];
        let _ = write!(text, "\n{}", table(&columns, &rows, paint));
        let mut rows: Vec<_> = self
            .hours
            .iter()
            .map(|(hour, count)| vec![rfc3339(*hour), count.to_string()])
            .collect();
        add_row(&mut rows, "(others)", self.other_hours);
        let columns = [("HOUR FROM", Lean::Left), ("COUNT", Lean::Right)];
        let _ = write!(text, "\n{}", table(&columns, &rows, paint));
        text
    }

    fn report(&self, looked: Looked) -> Report<'_> {
        let by_reason = self.by_reason().into_iter().map(|(why, count)| ByReason {
            disposition: why.map(|words| words.0),
            code: why.map(|words| words.1),
            stage: why.map(|words| words.2),
            count: count.count,
            oldest: count.oldest.map(rfc3339),
            newest: count.newest.map(rfc3339),
        });
        let by_tenant = self.by_tenant().into_iter();
        let hours = self.hours.iter();
        Report {
            looked_at: looked.records,
            count: looked.taken,
            limited: looked.limited,
            by_reason: by_reason.collect(),
            by_tenant: by_tenant
                .map(|(tenant_id, count)| ByTenant { tenant_id, count })
                .collect(),
            other_tenants: self.other_tenants,
            without_tenant: self.no_tenant,
            by_hour: hours
                .map(|(hour, count)| ByHour {
                    from: rfc3339(*hour),
                    count: *count,
                })
                .collect(),
            other_hours: self.other_hours,
        }
    }
}

impl Count {
    fn add(&mut self, at: Option<EpochMs>) {
        self.count += 1;
        self.oldest = self.oldest.into_iter().chain(at).min();
        self.newest = self.newest.into_iter().chain(at).max();
    }
}

fn add_row(rows: &mut Vec<Vec<String>>, name: &str, count: u64) {
    if count > 0 {
        rows.push(vec![name.to_owned(), count.to_string()]);
    }
}

/// The counts, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    looked_at: u64,
    count: u64,
    limited: bool,
    by_reason: Vec<ByReason>,
    by_tenant: Vec<ByTenant<'a>>,
    other_tenants: u64,
    without_tenant: u64,
    by_hour: Vec<ByHour>,
    other_hours: u64,
}

#[derive(Serialize)]
struct ByReason {
    disposition: Option<&'static str>,
    code: Option<&'static str>,
    stage: Option<&'static str>,
    count: u64,
    oldest: Option<String>,
    newest: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ByTenant<'a> {
    tenant_id: &'a str,
    count: u64,
}

#[derive(Serialize)]
struct ByHour {
    from: String,
    count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::letter::tests::{LOGIN, REFUSED, letter};

    fn counted() -> Stats {
        let mut stats = Stats::default();
        stats.add(&letter(LOGIN, REFUSED));
        stats.add(&letter(LOGIN, REFUSED));
        stats.add(&letter("9876543210", &[]));
        stats
    }

    #[test]
    fn the_most_frequent_reason_comes_first_and_foreign_records_are_counted() {
        let lines = [
            "DISPOSITION   CODE             STAGE  COUNT  OLDEST                NEWEST",
            "refused       service-refused  user       2  2025-11-26T14:00:00Z  2025-11-26T14:00:00Z",
            "none of ours  -                -          1  2025-11-26T14:00:00Z  2025-11-26T14:00:00Z",
            "",
            "TENANT                COUNT",
            "pb.amritsar               2",
            "(none, or not valid)      1",
            "",
            "HOUR FROM             COUNT",
            "2025-11-26T14:00:00Z      3",
        ];
        assert_eq!(counted().text(Paint::Plain), lines.join("\n") + "\n");
    }

    #[test]
    fn programs_get_the_same_figures() {
        let looked = Looked {
            records: 4,
            taken: 3,
            limited: false,
        };
        let report = serde_json::to_string(&counted().report(looked)).expect("JSON");
        assert_eq!(
            report,
            r#"{"lookedAt":4,"count":3,"limited":false,"byReason":[{"disposition":"refused","code":"service-refused","stage":"user","count":2,"oldest":"2025-11-26T14:00:00Z","newest":"2025-11-26T14:00:00Z"},{"disposition":null,"code":null,"stage":null,"count":1,"oldest":"2025-11-26T14:00:00Z","newest":"2025-11-26T14:00:00Z"}],"byTenant":[{"tenantId":"pb.amritsar","count":2}],"otherTenants":0,"withoutTenant":1,"byHour":[{"from":"2025-11-26T14:00:00Z","count":3}],"otherHours":0}"#
        );
    }

    #[test]
    fn strangers_tenants_take_no_more_than_their_room() {
        let mut stats = Stats::default();
        for number in 0..APART + 7 {
            let tenant = format!("pb.t{number}");
            stats.add(&letter("", &[("otp-tenant", &tenant)]));
        }
        assert_eq!((stats.tenants.len(), stats.other_tenants), (APART, 7));
        let text = stats.text(Paint::Plain);
        let others = text.lines().find(|line| line.starts_with("(others)"));
        let rest = (APART + 7 - SHOWN).to_string();
        assert!(others.is_some_and(|line| line.ends_with(&rest)), "{text}");
    }
}
