//! Which librdkafka properties may be set freely, and which of those are secrets.

/// The properties that the guarantee depends on, and why each is not free.
const OWNED: &[(&str, &str)] = &[
    ("acks", "a transaction needs every in-sync replica"),
    (
        "allow.auto.create.topics",
        "a missing topic must be an error; see topics.create",
    ),
    (
        "auto.offset.reset",
        "where a partition starts is decided by the marks in its committed offset",
    ),
    ("bootstrap.servers", "use kafka.brokers"),
    (
        "enable.auto.commit",
        "offsets are committed in the transaction of their results",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed in the transaction of their results",
    ),
    ("enable.idempotence", "a transaction needs it"),
    (
        "enable.partition.eof",
        "the end of a partition would be read as an error",
    ),
    ("group.id", "use kafka.group"),
    (
        "isolation.level",
        "committed_offsets waits for pending transactions only under read_committed",
    ),
    ("metadata.broker.list", "use kafka.brokers"),
    (
        "partition.assignment.strategy",
        "partitions are handed over one by one only under cooperative-sticky",
    ),
    (
        "partitioner",
        "one person's records must land where Java's producers put them",
    ),
    (
        "request.required.acks",
        "a transaction needs every in-sync replica",
    ),
    (
        "topic.blacklist",
        "a topic that is left out would be written and never read",
    ),
    (
        "transactional.id",
        "it is made of kafka.group and kafka.instance",
    ),
];

/// More in flight than this, and a repeated send may overtake another.
const IN_FLIGHT: &[&str] = &["max.in.flight", "max.in.flight.requests.per.connection"];

/// Of `sasl.` and `ssl.`, what may be read by anybody. All else there is masked: a new
/// library may bring new secrets, and a typing error in a name must not show its value.
const PLAIN: &[&str] = &[
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.username",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.keystore.location",
];

/// Is `name` (within `[kafka]`, and no key of ours) a librdkafka property?
pub(super) fn is_property(name: &str) -> bool {
    let spelled = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
    let listed = name == "debug" || OWNED.iter().any(|(owned, _)| *owned == name);
    spelled && (listed || (name.contains('.') && name.split('.').all(|part| !part.is_empty())))
}

/// Why `name` must not be set to `value`, if it must not.
pub(super) fn refused(name: &str, value: &str) -> Option<String> {
    if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| *owned == name) {
        return Some(format!("is not free: {reason}"));
    }
    if IN_FLIGHT.contains(&name) && !matches!(value.parse(), Ok(1..=5_u32)) {
        return Some(
            "must be from 1 to 5: beyond, order is lost when a send is repeated".to_owned(),
        );
    }
    None
}

/// Must the value of property `name` stay unseen?
pub(super) fn is_secret(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "pass",
        "secret",
        "token",
        "pem",
        "jaas",
        "credential",
        "private",
        "sasl",
        "ssl",
    ];
    !PLAIN.contains(&name) && WORDS.iter().any(|word| name.contains(word)) && !is_switch(name)
}

/// Switches that have a telling word in their names.
fn is_switch(name: &str) -> bool {
    name.starts_with("enable.")
}
