//! The names of our record headers, frozen by a golden test, and the rule for ids from outside.

use sha2::{Digest as _, Sha256};

/// Finds one request again; written once.
pub const EVENT_ID: &str = "otp-event-id";
/// Absolute deadline, epoch ms; written once.
pub const DEADLINE: &str = "otp-deadline-ms";
/// `topic-partition-offset` of the request's first record; written once.
pub const SOURCE: &str = "otp-source";
/// When the request's first record was received, epoch ms; written once.
pub const RECEIVED: &str = "otp-received-ms";
/// Tries so far.
pub const ATTEMPT: &str = "otp-attempt";
/// Sending limits were charged.
pub const CHARGED: &str = "otp-charged";
/// The client whose address is still to be charged, as an HMAC.
pub const CLIENT: &str = "otp-client";
/// The kind of dead letter.
pub const DISPOSITION: &str = "otp-disposition";
/// What happened.
pub const ERROR_CODE: &str = "otp-error-code";
/// Where it happened.
pub const ERROR_STAGE: &str = "otp-error-stage";
/// When the first try failed, epoch ms.
pub const FIRST_FAILED: &str = "otp-first-failed-ms";
/// When this try failed, epoch ms.
pub const FAILED: &str = "otp-failed-ms";
/// The request's tenant, on dead letters.
pub const TENANT: &str = "otp-tenant";
/// The request's type, on dead letters.
pub const TYPE: &str = "otp-type";
/// Size in bytes, SHA-256 and position of a value that was too large to copy.
pub const VALUE_SIZE: &str = "otp-value-size";
/// See [`VALUE_SIZE`].
pub const VALUE_SHA256: &str = "otp-value-sha256";
/// The last offset of a range that cannot be decoded; the first is its source.
pub const LAST_OFFSET: &str = "otp-last-offset";
/// The job that sent the request again.
pub const REPLAY_ID: &str = "otp-replay-id";
/// How often it was sent again.
pub const REPLAY_COUNT: &str = "otp-replay-count";
/// Who sent it again.
pub const REPLAY_BY: &str = "otp-replay-by";
/// Why.
pub const REPLAY_REASON: &str = "otp-replay-reason";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// The platform's correlation id.
pub const CORRELATION_ID: &str = "x-correlation-id";
/// The tenant header that the platform's services pass on.
pub const TENANT_ID: &str = "tenantId";
/// Apache Kafka's own names for a dead letter's original position and reason (KIP-1191).
pub const DLQ_TOPIC: &str = "__dlq.errors.topic";
/// See [`DLQ_TOPIC`].
pub const DLQ_PARTITION: &str = "__dlq.errors.partition";
/// See [`DLQ_TOPIC`].
pub const DLQ_OFFSET: &str = "__dlq.errors.offset";
/// See [`DLQ_TOPIC`].
pub const DLQ_GROUP: &str = "__dlq.errors.group";
/// See [`DLQ_TOPIC`].
pub const DLQ_DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
/// See [`DLQ_TOPIC`].
pub const DLQ_MESSAGE: &str = "__dlq.errors.message";

/// The headers that carry a job's id and history; kept as they are on what comes of it.
pub const REPLAY: [&str; 4] = [REPLAY_ID, REPLAY_COUNT, REPLAY_BY, REPLAY_REASON];

/// Every name with `otp-` that this version writes or reads.
const KNOWN: [&str; 21] = [
    EVENT_ID,
    DEADLINE,
    SOURCE,
    LAST_OFFSET,
    RECEIVED,
    ATTEMPT,
    CHARGED,
    CLIENT,
    DISPOSITION,
    ERROR_CODE,
    ERROR_STAGE,
    FIRST_FAILED,
    FAILED,
    TENANT,
    TYPE,
    VALUE_SIZE,
    VALUE_SHA256,
    REPLAY_ID,
    REPLAY_COUNT,
    REPLAY_BY,
    REPLAY_REASON,
];

/// Whether a header has a name that is kept for us, and this version does not know it: a newer one wrote it.
#[must_use]
pub fn is_of_a_newer_version(name: &str) -> bool {
    name.starts_with("otp-") && !KNOWN.contains(&name)
}

/// Whether a header is ours to write: it is left out when a record's headers are copied.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    name.starts_with("otp-")
        || name.starts_with("__dlq.errors.")
        || name == TRACEPARENT
        || name == CORRELATION_ID
}

const ID_LIMIT: usize = 128;

/// Fewer digits than this may stand in an id by chance.
const TELLING_DIGITS: usize = 7;

/// An id from outside, fit to be passed on: 1 to 128 printable ASCII characters, else `None`;
/// replaced by its hash where it contains the request's number. `number` is the number as it was
/// given, or the whole value where that could not be read.
#[must_use]
pub fn clean_id(raw: &[u8], number: &[u8]) -> Option<String> {
    let printable = raw.iter().all(|byte| (b' '..=b'~').contains(byte));
    let id = std::str::from_utf8(raw)
        .ok()
        .filter(|id| printable && !id.trim().is_empty() && id.len() <= ID_LIMIT)?;
    Some(if tells(id, number) {
        format!("sha256-{}", hex(&Sha256::digest(id)[..16]))
    } else {
        id.to_owned()
    })
}

/// What has fewer is no number that anybody could be found by.
const FEWEST_DIGITS: usize = 4;

/// Whether `id` has the digits of `number`, or of a number within it, in a row.
fn tells(id: &str, number: &[u8]) -> bool {
    let digits: Vec<u8> = number.iter().copied().filter(u8::is_ascii_digit).collect();
    let exact = digits.len() >= FEWEST_DIGITS && contains(id.as_bytes(), number);
    let bare: Vec<u8> = id.bytes().filter(u8::is_ascii_digit).collect();
    let national = &digits[digits.len().saturating_sub(10)..];
    let whole = national.len() >= TELLING_DIGITS && contains(&bare, national);
    exact
        || whole
        || id
            .split(|character: char| !character.is_ascii_digit())
            .any(|run| run.len() >= TELLING_DIGITS && contains(number, run.as_bytes()))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::kept(b"order-17", Some("order-17"))]
    #[case::empty(b"", None)]
    #[case::blank(b"  ", None)]
    #[case::control(b"a\nb", None)]
    #[case::not_ascii("é".as_bytes(), None)]
    #[case::binary(&[0xff, 0xfe], None)]
    fn ids_from_outside(#[case] raw: &[u8], #[case] id: Option<&str>) {
        assert_eq!(clean_id(raw, b"9876543210").as_deref(), id);
    }

    #[rstest]
    #[case::no_number("null-json", "null")]
    #[case::nothing("a", "")]
    #[case::a_digit("order-1", "1")]
    fn an_id_without_a_number_is_kept(#[case] id: &str, #[case] number: &str) {
        assert_eq!(
            clean_id(id.as_bytes(), number.as_bytes()).as_deref(),
            Some(id)
        );
    }

    #[test]
    fn an_id_has_128_characters_at_most() {
        assert!(clean_id(&[b'a'; 128], b"").is_some());
        assert_eq!(clean_id(&[b'a'; 129], b""), None);
    }

    #[rstest]
    #[case::as_given("otp-9876543210", "9876543210")]
    #[case::grouped("otp-98765-43210", "9876543210")]
    #[case::with_country_code("x919876543210", "+91 98765 43210")]
    #[case::national_part("x9876543210", "+919876543210")]
    #[case::in_an_unreadable_value("x9876543210", "{\"mobileNumber\":\"9876543210\"")]
    fn an_id_with_the_number_is_hashed(#[case] id: &str, #[case] number: &str) {
        let clean = clean_id(id.as_bytes(), number.as_bytes()).expect("usable");
        assert!(clean.starts_with("sha256-") && clean.len() == 39, "{clean}");
    }

    #[test]
    fn the_names_are_frozen() {
        let others = [
            TRACEPARENT,
            CORRELATION_ID,
            TENANT_ID,
            DLQ_TOPIC,
            DLQ_PARTITION,
            DLQ_OFFSET,
            DLQ_GROUP,
            DLQ_DELIVERY_COUNT,
            DLQ_MESSAGE,
        ];
        let names = [&KNOWN[..], &others].concat();
        assert!(!names.iter().any(|name| is_of_a_newer_version(name)));
        assert_eq!(
            names.join(" "),
            "otp-event-id otp-deadline-ms otp-source otp-last-offset otp-received-ms otp-attempt otp-charged otp-client \
             otp-disposition otp-error-code otp-error-stage otp-first-failed-ms otp-failed-ms otp-tenant otp-type \
             otp-value-size otp-value-sha256 otp-replay-id otp-replay-count otp-replay-by otp-replay-reason traceparent \
             x-correlation-id tenantId __dlq.errors.topic __dlq.errors.partition __dlq.errors.offset \
             __dlq.errors.group __dlq.errors.delivery.count __dlq.errors.message"
        );
    }
}
