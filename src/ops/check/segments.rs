//! How many messages the network makes of an SMS: 3GPP TS 23.038 and 23.040.

/// What else is in the default alphabet, besides letters and digits.
const OTHERS: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";

/// These take two places.
const EXTENDED: &str = "\u{c}^{}\\[~]|€";

/// The alphabet that a text needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// The default one, of 7 bits.
    Gsm7,
    /// 16 bits, for whatever the default one lacks.
    Ucs2,
}

/// A text's way over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segments {
    pub(super) alphabet: Alphabet,
    /// Places that it takes: septets, or UTF-16 units.
    pub(super) length: usize,
    pub(super) count: usize,
}

impl Segments {
    pub(super) fn of(text: &str) -> Self {
        let septets: Option<Vec<usize>> = text.chars().map(septets).collect();
        let (alphabet, places, whole, part) = match septets {
            Some(places) => (Alphabet::Gsm7, places, 160, 153),
            None => (
                Alphabet::Ucs2,
                text.chars().map(char::len_utf16).collect(),
                70,
                67,
            ),
        };
        let length = places.iter().sum();
        let count = if length <= whole {
            1
        } else {
            parts(&places, part)
        };
        Self {
            alphabet,
            length,
            count,
        }
    }
}

impl Alphabet {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Gsm7 => "GSM-7",
            Self::Ucs2 => "UCS-2",
        }
    }
}

fn septets(one: char) -> Option<usize> {
    if one.is_ascii_alphanumeric() || OTHERS.contains(one) {
        Some(1)
    } else {
        EXTENDED.contains(one).then_some(2)
    }
}

/// No character is cut in two.
fn parts(places: &[usize], part: usize) -> usize {
    let (mut count, mut used) = (1, 0);
    for place in places {
        if used + place > part {
            count += 1;
            used = 0;
        }
        used += place;
    }
    count
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::empty("", Alphabet::Gsm7, 0, 1)]
    #[case::whole("x".repeat(160), Alphabet::Gsm7, 160, 1)]
    #[case::one_more("x".repeat(161), Alphabet::Gsm7, 161, 2)]
    #[case::two_parts("x".repeat(306), Alphabet::Gsm7, 306, 2)]
    #[case::three_parts("x".repeat(307), Alphabet::Gsm7, 307, 3)]
    #[case::extended_take_two("€".repeat(80), Alphabet::Gsm7, 160, 1)]
    #[case::extended_one_more("€".repeat(81), Alphabet::Gsm7, 162, 2)]
    #[case::never_cut_in_two("x".repeat(152) + &"€".repeat(77), Alphabet::Gsm7, 306, 3)]
    #[case::default_alphabet("Ünï@£$Δ", Alphabet::Ucs2, 7, 1)]
    #[case::accents_of_the_default_alphabet("Üñà@£$Δ\n", Alphabet::Gsm7, 8, 1)]
    #[case::backtick_is_not_in_it("`", Alphabet::Ucs2, 1, 1)]
    #[case::hindi("है".repeat(35), Alphabet::Ucs2, 70, 1)]
    #[case::hindi_one_more("ह".repeat(71), Alphabet::Ucs2, 71, 2)]
    #[case::hindi_three("ह".repeat(135), Alphabet::Ucs2, 135, 3)]
    #[case::emoji_take_two("😀".repeat(36), Alphabet::Ucs2, 72, 2)]
    #[case::emoji_never_cut_in_two("😀".repeat(67), Alphabet::Ucs2, 134, 3)]
    fn segments_are_counted_as_networks_do(
        #[case] text: impl AsRef<str>,
        #[case] alphabet: Alphabet,
        #[case] length: usize,
        #[case] count: usize,
    ) {
        let expected = Segments {
            alphabet,
            length,
            count,
        };
        assert_eq!(Segments::of(text.as_ref()), expected);
    }
}
