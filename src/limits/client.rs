//! A client, as it is charged and passed on to the stream: an HMAC of its address, so that no topic and
//! no Redis holds the address itself.

use std::net::{IpAddr, Ipv6Addr};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::config::Config;
use crate::engine::headers::hex;
use crate::outcome::Limit;
use crate::store;

/// Whose address a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client([u8; 16]);

impl Client {
    /// As [`Client::to_text`] has it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u128::from_str_radix(text, 16).ok().filter(|_| digits)?;
        Some(Self(bits.to_be_bytes()))
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn to_text(self) -> String {
        hex(&self.0)
    }
}

/// Names clients, under `limits.key`. A cheap handle.
#[derive(Debug, Clone)]
pub struct Clients(Hmac<Sha256>);

impl Clients {
    /// None where no limit asks for the client.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let asked = super::rules(config)
            .iter()
            .any(|rule| rule.limit == Limit::Address);
        asked.then(|| Self(store::hmac(config)))
    }

    /// Who comes from `address`.
    #[must_use]
    pub fn name(&self, address: IpAddr) -> Client {
        let mut hmac = self.0.clone();
        hmac.update(format!("client {}", network(address)).as_bytes());
        let digest = hmac.finalize().into_bytes();
        let mut client = [0; 16];
        client.copy_from_slice(&digest[..16]);
        Client(client)
    }
}

/// An address as one client has it: of IPv6 a client has 64 bits at least.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn clients(settings: &[(&str, &str)]) -> Option<Clients> {
        let pairs = settings
            .iter()
            .map(|(key, value)| (format!("USER_OTP__LIMITS__{key}"), (*value).to_owned()));
        Clients::of(&Config::load(None, pairs).expect("the settings are right").0)
    }

    #[rstest]
    #[case("203.0.113.7", "203.0.113.7")]
    #[case("::ffff:203.0.113.7", "203.0.113.7")]
    #[case("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")]
    fn a_client_has_a_network_of_its_own(#[case] address: IpAddr, #[case] counted: IpAddr) {
        assert_eq!(network(address), counted);
    }

    #[test]
    fn a_clients_name_depends_on_its_address_and_the_key_and_can_be_read_again() {
        let name = |key, address: [u8; 4]| {
            let clients = clients(&[("KEY", key)]).expect("a shadow asks for it");
            clients.name(address.into())
        };
        let one = name("sesame", [203, 0, 113, 7]);
        assert_eq!(one, name("sesame", [203, 0, 113, 7]));
        assert_ne!(one, name("sesame", [203, 0, 113, 8]));
        assert_ne!(one, name("another", [203, 0, 113, 7]));
        assert_eq!(Client::parse(one.to_text().as_bytes()), Some(one));
        for junk in ["", "+f", "+0000000000000000000000000000000", "203.0.113.7"] {
            assert_eq!(Client::parse(junk.as_bytes()), None, "{junk}");
        }
    }

    #[rstest]
    #[case("ADDRESS")]
    #[case("MODE")]
    fn nobody_is_named_where_no_limit_asks(#[case] switch: &str) {
        assert!(clients(&[(switch, "off")]).is_none());
    }
}
