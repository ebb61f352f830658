//! How many bytes a second a client may read, given and taken away by Kafka's protocol itself: the client
//! library's binding has no call for it.

use crate::acl::{ask, text};

const ALTER_CLIENT_QUOTAS: i16 = 49;

/// Lets the clients of this id read so many bytes a second; none: as many as they like.
pub(crate) fn limit_reading(broker: &str, client_id: &str, bytes: Option<f64>) {
    let one = 1_i32.to_be_bytes();
    let entity = [&one[..], &text("client-id"), &text(client_id)].concat();
    let value = bytes.unwrap_or_default().to_be_bytes();
    let change = [
        &one[..],
        &text("consumer_byte_rate"),
        &value,
        &[u8::from(bytes.is_none())],
    ]
    .concat();
    let validate_only = [0];
    let request = [&one[..], &entity, &change, &validate_only].concat();
    let answer = ask(broker, ALTER_CLIENT_QUOTAS, 0, &request);
    // The correlation id, the throttle time, and the number of entries come before the error of the first.
    assert_eq!(answer[12..14], [0, 0], "the quota is changed");
}
