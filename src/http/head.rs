//! What the head of a request says beyond its body: whose repeat it is, and from where it comes.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

use super::answer::Answer;
use crate::domain::rejection::{FieldError, Rejection};

/// As ids from outside, such as correlation ids, are bounded.
const LONGEST_KEY: usize = 128;

/// The request's `Idempotency-Key`, where it has one: 1 to 128 printable ASCII characters.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Answer> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    // What cannot be told from another request's key must not be answered as if it could.
    let alone = values.next().is_none();
    let key = value.to_str().ok().filter(|key| {
        let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        alone && printable && (1..=LONGEST_KEY).contains(&key.len())
    });
    match key {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(Answer::Rejected(Rejection::Invalid(vec![
            FieldError::KEY_INVALID,
        ]))),
    }
}

/// The client's address, where `peer` is a proxy that is trusted to say it: the last one in
/// `X-Forwarded-For` that is no such proxy's, since whatever stands before it anybody may have written.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let trusts = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !trusts(&peer.to_canonical()) {
        return None;
    }
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for hop in value.to_str().ok()?.rsplit(',') {
            let address = address(hop.trim())?;
            if !trusts(&address) {
                return Some(address);
            }
        }
    }
    None
}

/// Some proxies write the port as well.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(&[], Ok(None))]
    #[case::plain(&["8e03978e-40d5"], Ok(Some("8e03978e-40d5")))]
    #[case::longest(&[&*"k".repeat(128)], Ok(Some(&*"k".repeat(128))))]
    #[case::too_long(&[&*"k".repeat(129)], Err(()))]
    #[case::empty(&[""], Err(()))]
    #[case::a_tab(&["a\tb"], Err(()))]
    #[case::not_ascii(&["schlüssel"], Err(()))]
    #[case::two(&["a", "a"], Err(()))]
    fn a_key_is_one_short_printable_text(
        #[case] values: &[&str],
        #[case] expected: Result<Option<&str>, ()>,
    ) {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append("Idempotency-Key", value);
        }
        let key = idempotency_key(&headers).map_err(drop);
        assert_eq!(key, expected.map(|key| key.map(str::to_owned)));
    }

    #[rstest]
    #[case::not_behind_a_proxy("203.0.113.9", &["198.51.100.1"], None)]
    #[case::no_header("10.0.0.1", &[], None)]
    #[case::one("10.0.0.1", &["198.51.100.1"], Some("198.51.100.1"))]
    #[case::forged_before_it("10.0.0.1", &["192.0.2.66, 198.51.100.1"], Some("198.51.100.1"))]
    #[case::behind_two("10.0.0.1", &["198.51.100.1,10.9.9.9 , 192.0.2.1"], Some("198.51.100.1"))]
    #[case::several_headers("10.0.0.1", &["192.0.2.66", "198.51.100.1", "10.9.9.9"], Some("198.51.100.1"))]
    #[case::proxies_alone("10.0.0.1", &["10.0.0.2, 10.0.0.3"], None)]
    #[case::junk("10.0.0.1", &["198.51.100.1, unknown"], None)]
    #[case::a_port("10.0.0.1", &["198.51.100.1:4711"], Some("198.51.100.1"))]
    #[case::version_6("::ffff:10.0.0.1", &["2001:db8::7"], Some("2001:db8::7"))]
    #[case::version_6_in_brackets("10.0.0.1", &["[2001:db8::7]"], Some("2001:db8::7"))]
    #[case::version_6_with_a_port("10.0.0.1", &["[2001:db8::7]:4711"], Some("2001:db8::7"))]
    #[case::version_4_in_6("10.0.0.1", &["::ffff:198.51.100.1"], Some("198.51.100.1"))]
    fn the_client_is_who_the_last_trusted_proxy_saw(
        #[case] peer: &str,
        #[case] forwarded: &[&str],
        #[case] expected: Option<&str>,
    ) {
        let trusted = ["10.0.0.0/8", "192.0.2.1/32"].map(|one| one.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            let value = HeaderValue::from_str(value).expect("a value");
            headers.append("X-Forwarded-For", value);
        }
        let peer = peer.parse().expect("an address");
        let expected = expected.map(|one| one.parse().expect("an address"));
        assert_eq!(client(peer, &headers, &trusted), expected);
    }
}
