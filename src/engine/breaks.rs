//! What librdkafka's log says of a producer's connections: a request that was under way on one that broke is repeated
//! on a new one, and its first copy may still arrive.
//!
//! The library says each break in a debug line (`debug=broker`). Its ordinary lines leave out the third identical
//! one within half a minute, and the error callback does not hear a peer's close. The thread of the connection
//! writes the line before it gives the request back: once a call returns, the line is in the queue.

use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;

/// A connection's states before it carries requests of ours.
const NOT_YET_UP: &[&str] = &[
    "INIT",
    "DOWN",
    "TRY_CONNECT",
    "CONNECT",
    "SSL_HANDSHAKE",
    "APIVERSION_QUERY",
];

/// Said once a new client knows its brokers, of each connection that it asked for them. No request of a transaction
/// goes over those.
const KNOWS_ITS_BROKERS: &str = "/bootstrap: Decommissioning this broker";

/// A line of the log after which a request may still be on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// A connection broke, or an answer did not come in time.
    Broken,
    /// The library closed a connection on which nothing had moved for so long.
    Idle(Duration),
}

impl Break {
    pub(super) fn in_line(level: RDKafkaLogLevel, facility: &str, line: &str) -> Option<Self> {
        if facility == "REQTMOUT" {
            return Some(Self::Broken);
        }
        // Each break has one debug line, and perhaps one of another level.
        if facility != "FAIL" || !is_debug(level) || is_not_yet_up(line) {
            return None;
        }
        if line.contains(KNOWS_ITS_BROKERS) {
            return None;
        }
        let idle = line.split_once("Connection max idle time exceeded (");
        let idle = idle.and_then(|(_, rest)| rest.split_once("ms since last activity"));
        let idle = idle.and_then(|(ms, _)| ms.parse().ok());
        Some(idle.map_or(Self::Broken, |ms| Self::Idle(Duration::from_millis(ms))))
    }

    /// Whether a request of the last `time` may have been under way. One that was closed for idleness may have had
    /// a request that waits for its answer.
    pub(super) fn concerns(self, time: Duration) -> bool {
        match self {
            Self::Broken => true,
            Self::Idle(idle) => idle <= time,
        }
    }
}

/// Whether only we asked for the line.
pub(super) fn is_debug(level: RDKafkaLogLevel) -> bool {
    matches!(level, RDKafkaLogLevel::Debug)
}

/// `… (after 12ms in state CONNECT) (_TRANSPORT)`
fn is_not_yet_up(line: &str) -> bool {
    let state = line.rsplit_once(" in state ").map(|(_, rest)| {
        let end = rest.find(|one: char| !(one.is_ascii_uppercase() || one == '_'));
        end.map_or(rest, |end| rest.split_at(end).0)
    });
    state.is_some_and(|state| NOT_YET_UP.contains(&state))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rdkafka::config::RDKafkaLogLevel::{self, Debug, Info, Notice};
    use rstest::rstest;

    use super::Break;

    const IDLE: Break = Break::Idle(Duration::from_millis(4_512));

    #[rstest]
    #[case(
        Debug,
        "FAIL",
        "b/1: Disconnected (after 7ms in state UP) (_TRANSPORT)",
        Some(Break::Broken)
    )]
    #[case(
        Debug,
        "FAIL",
        "b/1: Disconnected (after 7ms in state UP, 2 identical error(s) suppressed) (_TRANSPORT): identical to last error: error log suppressed",
        Some(Break::Broken)
    )]
    #[case(
        Debug,
        "FAIL",
        "b/1: 1 request(s) timed out: disconnect (after 7ms in state REAUTH) (_TIMED_OUT)",
        Some(Break::Broken)
    )]
    #[case(Debug, "FAIL", "b/1: a line without its state", Some(Break::Broken))]
    #[case(
        Debug,
        "FAIL",
        "b/1: Connection max idle time exceeded (4512ms since last activity) (after 9000ms in state UP) (_TRANSPORT)",
        Some(IDLE)
    )]
    #[case(
        Debug,
        "FAIL",
        "b/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT) (_TRANSPORT)",
        None
    )]
    #[case(
        Debug,
        "FAIL",
        "b/1: Connection setup timed out in state CONNECT (after 30000ms in state CONNECT) (_TRANSPORT)",
        None
    )]
    #[case(
        Debug,
        "FAIL",
        "b:9092/bootstrap: Decommissioning this broker (after 0ms in state UP) (_DESTROY_BROKER)",
        None
    )]
    #[case(
        Debug,
        "FAIL",
        "b:9092/1: Decommissioning this broker (after 7ms in state UP) (_DESTROY_BROKER)",
        Some(Break::Broken)
    )]
    // The same, said once more.
    #[case(Info, "FAIL", "b/1: Disconnected (after 7ms in state UP)", None)]
    #[case(
        Notice,
        "REQTMOUT",
        "b/1: Timed out EndTxnRequest in flight (after 60000ms, timeout #0)",
        Some(Break::Broken)
    )]
    #[case(Debug, "STATE", "b/1: Broker changed state UP -> DOWN", None)]
    fn a_line_and_whether_a_request_may_still_be_on_its_way(
        #[case] level: RDKafkaLogLevel,
        #[case] facility: &str,
        #[case] line: &str,
        #[case] expected: Option<Break>,
    ) {
        assert_eq!(Break::in_line(level, facility, line), expected);
    }

    #[test]
    fn a_close_for_idleness_concerns_what_was_sent_before_it_began() {
        assert!(Break::Broken.concerns(Duration::ZERO));
        assert!(!IDLE.concerns(Duration::from_secs(4)));
        assert!(IDLE.concerns(Duration::from_secs(5)));
    }
}
