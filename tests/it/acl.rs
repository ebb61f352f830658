//! Permissions on a broker of a test's own, given and taken away by Kafka's protocol itself: the
//! client library's binding has no call for them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::kafka::wait_until;

/// What is allowed to one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permission {
    pub(crate) resource: Resource,
    pub(crate) name: String,
    pub(crate) pattern: Pattern,
    pub(crate) operation: Operation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Topic = 2,
    Group = 3,
    TransactionalId = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    Literal = 3,
    Prefixed = 4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Describe = 8,
    DescribeConfigs = 10,
}

/// `ALLOW`, as the protocol writes it.
const ALLOW: u8 = 3;

/// From any host.
const ANYWHERE: &str = "*";

impl Permission {
    pub(crate) fn on_topic(operation: Operation, topic: &str) -> Self {
        Self {
            resource: Resource::Topic,
            name: topic.to_owned(),
            pattern: Pattern::Literal,
            operation,
        }
    }

    /// As all three requests write it, to give and to look for.
    fn encode(&self, user: &str) -> Vec<u8> {
        let mut bytes = vec![self.resource as u8];
        bytes.extend(text(&self.name));
        bytes.push(self.pattern as u8);
        bytes.extend(text(&format!("User:{user}")));
        bytes.extend(text(ANYWHERE));
        bytes.extend([self.operation as u8, ALLOW]);
        bytes
    }
}

/// Gives permissions, and waits until they count.
pub(crate) fn grant(broker: &str, user: &str, permissions: &[Permission]) {
    let answer = ask(broker, CREATE, 1, &list(permissions, user));
    let mut results = &answer[8..];
    for permission in permissions {
        let (code, message) = (results[..2].to_vec(), &results[2..]);
        assert_eq!(code, [0, 0], "{permission:?} is not given");
        results = after_text(message);
    }
    for permission in permissions {
        wait_until("the permission counts", || {
            is_given(broker, user, permission)
        });
    }
}

/// Takes a permission away, and waits until it no longer counts.
pub(crate) fn revoke(broker: &str, user: &str, permission: &Permission) {
    assert!(is_given(broker, user, permission), "{permission:?}");
    let answer = ask(
        broker,
        DELETE,
        1,
        &list(std::slice::from_ref(permission), user),
    );
    assert_eq!(answer[8..10], [0, 0], "{permission:?} is not taken away");
    wait_until("the permission no longer counts", || {
        !is_given(broker, user, permission)
    });
}

fn is_given(broker: &str, user: &str, permission: &Permission) -> bool {
    let answer = ask(broker, DESCRIBE, 1, &permission.encode(user));
    assert_eq!(answer[4..6], [0, 0], "the broker tells its permissions");
    after_text(&answer[6..])[..4] != [0; 4]
}

const DESCRIBE: i16 = 29;
const CREATE: i16 = 30;
const DELETE: i16 = 31;

/// One request on a connection of its own; the answer's body.
pub(crate) fn ask(broker: &str, api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(api.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(0_i32.to_be_bytes());
    request.extend(text("it"));
    request.extend(body);
    let mut stream = TcpStream::connect(broker).expect("the broker is there");
    let size = i32::try_from(request.len()).expect("a small request");
    stream
        .write_all(&[&size.to_be_bytes()[..], &request].concat())
        .expect("the broker reads");
    let mut size = [0; 4];
    stream.read_exact(&mut size).expect("the broker answers");
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(size)).expect("a size")];
    stream.read_exact(&mut answer).expect("the broker answers");
    answer.split_off(4)
}

fn list(permissions: &[Permission], user: &str) -> Vec<u8> {
    let count = i32::try_from(permissions.len()).expect("a few permissions");
    let mut bytes = count.to_be_bytes().to_vec();
    for permission in permissions {
        bytes.extend(permission.encode(user));
    }
    bytes
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let size = i16::try_from(text.len()).expect("a short text");
    [&size.to_be_bytes()[..], text.as_bytes()].concat()
}

/// What follows a text that may be null.
fn after_text(bytes: &[u8]) -> &[u8] {
    let size = i16::from_be_bytes([bytes[0], bytes[1]]);
    &bytes[2 + usize::try_from(size).unwrap_or_default()..]
}
