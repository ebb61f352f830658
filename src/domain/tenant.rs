//! Tenant ids: dot-separated, most general part first (`pb`, `pb.amritsar`, `in.pb.amritsar`).

use std::fmt;

/// The longest tenant id, in characters.
const MAX_LENGTH: usize = 256;

/// The longest part of a tenant id: it becomes part of a topic name, or of a schema's.
const MAX_PART_LENGTH: usize = 63;

/// How tenant ids map to states and topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenancy {
    /// Whether several states share this installation, each with topics of its own.
    pub central_instance: bool,
    /// How many leading parts name the state, in a central instance.
    pub state_level_length: usize,
    /// Which part (from 0) is the prefix of the state's topics, in a central instance.
    pub schema_index: usize,
}

impl Default for Tenancy {
    /// One state alone: the platform's defaults.
    fn default() -> Self {
        Self {
            central_instance: false,
            state_level_length: 1,
            schema_index: 1,
        }
    }
}

/// A valid tenant id: at most 256 characters, each part `^[a-zA-Z_][a-zA-Z0-9_]{0,62}$`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantId(Box<str>);

/// The text is not a tenant id. It is not repeated here: strangers choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a tenant id")]
pub struct InvalidTenant;

impl TenantId {
    /// Parses a tenant id.
    ///
    /// # Errors
    /// When the text is longer than 256 characters or a part has another shape.
    pub fn parse(text: &str) -> Result<Self, InvalidTenant> {
        if Self::is_valid(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTenant)
        }
    }

    /// Whether [`TenantId::parse`] would take this text.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        text.len() <= MAX_LENGTH && text.split('.').all(is_part)
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first dot: the level at which citizens are registered.
    #[must_use]
    pub fn first_part(&self) -> &str {
        self.leading(1)
    }

    /// The state: whose mobile-number rules apply, and under which they are cached.
    #[must_use]
    pub fn state_level(&self, tenancy: &Tenancy) -> &str {
        if tenancy.central_instance {
            self.leading(tenancy.state_level_length.max(1))
        } else {
            self.first_part()
        }
    }

    /// The id that egov-localization knows: without its last `strip` parts, but never without
    /// its first.
    #[must_use]
    pub fn for_localization(&self, strip: i32) -> &str {
        let strip = usize::try_from(strip).unwrap_or(0);
        self.leading(self.parts().saturating_sub(strip).max(1))
    }

    /// The name of a notification topic for this tenant: `base`, in a central instance with the
    /// tenant's prefix.
    #[must_use]
    pub fn topic(&self, tenancy: &Tenancy, base: &str) -> String {
        if !tenancy.central_instance {
            return base.to_owned();
        }
        let index = tenancy.schema_index.min(self.parts() - 1);
        let prefix = self.0.split('.').nth(index).unwrap_or(self.as_str());
        format!("{prefix}-{base}")
    }

    fn parts(&self) -> usize {
        self.0.split('.').count()
    }

    /// The first `count` parts, or the whole id where it has fewer.
    fn leading(&self, count: usize) -> &str {
        let end = self
            .0
            .match_indices('.')
            .nth(count - 1)
            .map_or(self.0.len(), |(at, _)| at);
        &self.0[..end]
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_part(part: &str) -> bool {
    let mut bytes = part.bytes();
    part.len() <= MAX_PART_LENGTH
        && bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn id(text: &str) -> TenantId {
        TenantId::parse(text).expect("a valid tenant id")
    }

    fn central(state_level_length: usize, schema_index: usize) -> Tenancy {
        Tenancy {
            central_instance: true,
            state_level_length,
            schema_index,
        }
    }

    #[rstest]
    #[case::one_part("pb")]
    #[case::several_parts("in.pb.amritsar")]
    #[case::underscore_first("_pb._1")]
    #[case::part_of_63("a23456789012345678901234567890123456789012345678901234567890123")]
    fn takes_a_tenant_id(#[case] text: &str) {
        assert_eq!(id(text).as_str(), text);
    }

    #[rstest]
    #[case::empty("")]
    #[case::blank(" ")]
    #[case::empty_part("pb..amritsar")]
    #[case::dot_last("pb.")]
    #[case::dot_first(".pb")]
    #[case::digit_first("1pb")]
    #[case::hyphen("pb-x")]
    #[case::slash("pb/../x")]
    #[case::line_end("pb\n")]
    #[case::other_script("पंजाब")]
    #[case::part_of_64("a234567890123456789012345678901234567890123456789012345678901234")]
    fn refuses_what_is_no_tenant_id(#[case] text: &str) {
        assert_eq!(TenantId::parse(text), Err(InvalidTenant));
    }

    #[test]
    fn is_at_most_256_characters_long() {
        let longest = format!("{}abcd.abc", "a.".repeat(124));
        assert_eq!(longest.len(), 256);
        assert!(TenantId::is_valid(&longest));
        assert!(!TenantId::is_valid(&format!("{longest}d")));
    }

    #[rstest]
    #[case("a.b.c", 1, "a.b")]
    #[case("a.b", 1, "a")]
    #[case("a", 1, "a")]
    #[case("a.b.c", 2, "a")]
    #[case("a.b.c", 9, "a")]
    #[case("a.b.c", 0, "a.b.c")]
    #[case("a.b.c", -3, "a.b.c")]
    fn localization_knows_the_id_without_its_suffix(
        #[case] text: &str,
        #[case] strip: i32,
        #[case] expected: &str,
    ) {
        assert_eq!(id(text).for_localization(strip), expected);
    }

    #[rstest]
    #[case::alone("in.pb.amritsar", Tenancy::default(), "in")]
    #[case::alone_ignores_the_length("in.pb.amritsar", Tenancy { state_level_length: 2, ..Tenancy::default() }, "in")]
    #[case::central("in.pb.amritsar", central(2, 1), "in.pb")]
    #[case::central_one("in.pb.amritsar", central(1, 1), "in")]
    #[case::central_with_fewer_parts("pb", central(2, 1), "pb")]
    #[case::length_zero_is_one("in.pb", central(0, 1), "in")]
    fn the_state_is_the_leading_parts(
        #[case] text: &str,
        #[case] tenancy: Tenancy,
        #[case] expected: &str,
    ) {
        assert_eq!(id(text).state_level(&tenancy), expected);
    }

    #[rstest]
    #[case::alone("pb.amritsar", Tenancy::default(), "sms")]
    #[case::second_part("pb.amritsar", central(1, 1), "amritsar-sms")]
    #[case::first_part("in.pb.amritsar", central(1, 0), "in-sms")]
    #[case::capped_at_the_last("in.pb", central(1, 7), "pb-sms")]
    #[case::one_part_is_its_own("pb", central(1, 1), "pb-sms")]
    fn a_central_instance_prefixes_its_topics(
        #[case] text: &str,
        #[case] tenancy: Tenancy,
        #[case] expected: &str,
    ) {
        assert_eq!(id(text).topic(&tenancy, "sms"), expected);
    }
}
