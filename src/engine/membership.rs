//! In which generation of its group the consumer last heard what it holds.
//!
//! The broker takes the offsets of a member whose generation is right, whatever partition they are of. So a commit
//! names the generation that our assignment is of, and not the latest.
//!
//! An assignment outside of a callback answers a rebalance that waits, and clears librdkafka's note that the
//! assignment is lost. It was seen after a pause of the process: librdkafka joined again as a new member, and what
//! others had read meanwhile was committed once more. So a revocation behind such a call counts as a loss.

use std::sync::Arc;

use parking_lot::Mutex;
use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};

use super::clients::Connection;
use super::consumer::Consumer;

/// What the consumer heard of its group.
#[derive(Default)]
pub(crate) struct Membership {
    /// Under `group.protocol=consumer` the generation moves without a rebalance, and the broker says what is lost.
    broker_decides: bool,
    heard: Mutex<Heard>,
    /// Of the assignment that the last rebalance left.
    assigned: Mutex<Option<Arc<ConsumerGroupMetadata>>>,
}

#[derive(Debug, Default)]
struct Heard {
    /// Our latest generation, and our member id in it.
    joined: Option<(i64, String)>,
    /// A generation that nothing is committed under yet.
    is_new: bool,
    /// There was a generation without us since [`Membership::take_missed`].
    missed: bool,
    /// Something was assigned or let go since the last revocation that was not the answer to a rebalance.
    disturbed: bool,
}

impl Membership {
    pub(crate) fn new(connection: &Connection) -> Self {
        Self {
            broker_decides: connection.properties.get("group.protocol") == Some("consumer"),
            ..Self::default()
        }
    }

    /// Reads a line of librdkafka's log. A line comes before the rebalance that follows it.
    pub(crate) fn read(&self, facility: &str, line: &str) {
        if facility != "JOINGROUP" {
            return;
        }
        let Some((generation, member)) = joined(line) else {
            return;
        };
        let heard = &mut *self.heard.lock();
        // A join that is answered twice, and one that the coordinator forgot, repeat the number.
        let follows = |(last, name): &(i64, String)| {
            name == member && (generation == *last || generation == *last + 1)
        };
        heard.missed |= heard.joined.as_ref().is_some_and(|last| !follows(last));
        heard.joined = Some((generation, member.to_owned()));
        heard.is_new = true;
    }

    /// Notes that something is assigned or let go that is not the answer to a rebalance.
    pub(crate) fn disturb(&self) {
        self.heard.lock().disturbed = true;
    }

    /// Whether that was so since the last call.
    pub(crate) fn take_disturbed(&self) -> bool {
        std::mem::take(&mut self.heard.lock().disturbed)
    }

    /// Whether there was a generation without us since the last call.
    pub(crate) fn take_missed(&self) -> bool {
        std::mem::take(&mut self.heard.lock().missed)
    }

    /// Notes in a callback that what is held is of the consumer's present generation. A rebalance that no join went
    /// before takes something away, and names none.
    pub(crate) fn renew(&self, consumer: &Consumer) {
        let is_new = std::mem::take(&mut self.heard.lock().is_new);
        let mut assigned = self.assigned.lock();
        if is_new || assigned.is_none() {
            *assigned = consumer.group_metadata().map(Arc::new);
        }
    }

    /// What a commit of our assignment names; `None` before the first one.
    pub(crate) fn of_assignment(&self, consumer: &Consumer) -> Option<Arc<ConsumerGroupMetadata>> {
        match self.broker_decides {
            true => consumer.group_metadata().map(Arc::new),
            false => self.assigned.lock().clone(),
        }
    }
}

/// The generation and the member id of a join that succeeded.
fn joined(line: &str) -> Option<(i64, &str)> {
    let (_, rest) = line.split_once("JoinGroup response: GenerationId ")?;
    let rest = rest.strip_suffix(": (no error)")?;
    let (generation, rest) = rest.split_once(',')?;
    let (_, rest) = rest.rsplit_once(", my MemberId ")?;
    let (member, _) = rest.rsplit_once(", member metadata count ")?;
    Some((generation.parse().ok()?, member))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn line(generation: i64, member: &str) -> String {
        format!(
            "[thrd:main]: JoinGroup response: GenerationId {generation}, Protocol cooperative-sticky, LeaderId \
             {member} (me), my MemberId {member}, member metadata count 2: (no error)"
        )
    }

    #[rstest::rstest]
    #[case::first(&[(7, "m")], false)]
    #[case::each(&[(7, "m"), (8, "m"), (9, "m")], false)]
    #[case::answered_twice(&[(7, "m"), (7, "m"), (8, "m")], false)]
    #[case::one_without_us(&[(7, "m"), (9, "m")], true)]
    #[case::a_new_member(&[(7, "m"), (8, "n")], true)]
    #[case::a_new_group(&[(7, "m"), (1, "m")], true)]
    fn a_generation_without_us_is_noticed_once(
        #[case] joins: &[(i64, &str)],
        #[case] missed: bool,
    ) {
        let membership = Membership::default();
        for (generation, member) in joins {
            membership.read("JOINGROUP", &line(*generation, member));
        }
        assert_eq!(membership.take_missed(), missed);
        assert!(!membership.take_missed(), "it was taken");
    }

    #[test]
    fn a_join_that_failed_has_no_generation() {
        let membership = Membership::default();
        membership.read("JOINGROUP", &line(7, "m"));
        let failed = line(-1, "").replace("(no error)", "Broker: Unknown member");
        membership.read("JOINGROUP", &failed);
        membership.read("REJOIN", &line(20, "m"));
        membership.read("JOINGROUP", &line(8, "m"));
        assert!(!membership.take_missed());
    }
}
