//! Progress: a partition with something to read never stands still for long, whatever has failed and is
//! well again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::chance::Stop;
use crate::journal::Journal;
use crate::reader::{Behind, Position};

/// A request's lifetime, in which its offset may stand still, and the longest that instances and brokers
/// may be away together.
pub(crate) const BOUND: Duration = Duration::from_secs(240);

/// Between two looks.
const GAP: Duration = Duration::from_secs(5);

/// Since when the group is at an offset of a partition, though there is more.
#[derive(Debug, Default)]
struct Standing(BTreeMap<(String, i32), (Option<i64>, Instant, bool)>);

impl Standing {
    /// Takes what was seen at `now`; returns what has stood still for too long, each once.
    fn see(&mut self, behind: &[Behind], now: Instant) -> Vec<Behind> {
        let place = |one: &Behind| (one.topic.clone(), one.partition);
        // No record may ever have been there: then there is nothing to read.
        let behind: Vec<_> = behind.iter().filter(|one| one.end > 0).collect();
        self.0
            .retain(|known, _| behind.iter().any(|one| place(one) == *known));
        let mut found = Vec::new();
        for one in behind {
            let (committed, since, said) =
                self.0
                    .entry(place(one))
                    .or_insert((one.committed, now, false));
            if *committed != one.committed {
                (*committed, *since, *said) = (one.committed, now, false);
            }
            if !*said && now.saturating_duration_since(*since) > BOUND {
                *said = true;
                found.push(one.clone());
            }
        }
        found
    }
}

/// Looks until `stop`; returns the partitions that stood still, with what was last done before.
pub(crate) fn watch(brokers: &str, group: &str, stop: &Stop, journal: &Journal) -> Vec<String> {
    let position = Position::new(brokers, group).expect("a client");
    let (mut standing, mut found) = (Standing::default(), Vec::new());
    while stop.wait(GAP) {
        // While brokers are away nothing is known.
        let Ok(behind) = position.behind() else {
            continue;
        };
        for Behind {
            topic,
            partition,
            committed,
            end,
        } in standing.see(&behind, Instant::now())
        {
            let text = format!(
                "{topic}-{partition} has stood still at {committed:?} of {end} for {} s; the latest fault: {}",
                BOUND.as_secs(),
                journal.latest()
            );
            journal.note(&text);
            found.push(text);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(committed: Option<i64>, end: i64) -> Vec<Behind> {
        vec![Behind {
            topic: "requests".to_owned(),
            partition: 3,
            committed,
            end,
        }]
    }

    #[test]
    fn a_partition_that_stands_still_is_found_once() {
        let (mut standing, begin) = (Standing::default(), Instant::now());
        let late = begin + BOUND + GAP;
        assert_eq!(standing.see(&at(Some(5), 9), begin), []);
        assert_eq!(standing.see(&at(Some(5), 12), begin + BOUND), []);
        assert_eq!(standing.see(&at(Some(5), 12), late), at(Some(5), 12));
        assert_eq!(standing.see(&at(Some(5), 12), late + GAP), []);
    }

    #[test]
    fn a_partition_that_moves_or_is_read_is_not() {
        let (mut standing, begin) = (Standing::default(), Instant::now());
        standing.see(&at(Some(5), 9), begin);
        assert_eq!(standing.see(&at(Some(6), 12), begin + BOUND * 2), []);
        standing.see(&[], begin + BOUND * 3);
        assert_eq!(standing.see(&at(Some(6), 13), begin + BOUND * 4), []);
    }

    #[test]
    fn an_empty_partition_has_nothing_to_read() {
        let (mut standing, begin) = (Standing::default(), Instant::now());
        standing.see(&at(Some(5), 0), begin);
        assert_eq!(standing.see(&at(Some(5), 0), begin + BOUND * 2), []);
    }
}
