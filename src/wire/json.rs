//! Tolerant reading of JSON from outside.
//!
//! One scan over an object finds the members that were asked for and passes over the others
//! without building them. serde_json passes over a value with a loop, not by recursion, so depth
//! costs no stack; a found member is a slice of the text ([`RawValue`]), so a number keeps its exact
//! digits and a megabyte of it costs no more than the scan.
//!
//! Where a name occurs twice the last one counts, as in Jackson. Strings with unpaired surrogates,
//! which Jackson takes, are read with a replacement character in their place.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The value is not of the shape that was asked for.
#[derive(Debug)]
pub(super) struct WrongShape;

/// What one scan over an object found, in the order in which it was asked for.
pub(super) type Members<'a, const N: usize> = [Option<&'a RawValue>; N];

/// Whether two names are the same.
pub(super) type SameName = fn(&[u8], &[u8]) -> bool;

/// Names that are the same to the letter.
pub(super) fn exact(a: &[u8], b: &[u8]) -> bool {
    a == b
}

/// Names that are the same without regard to case.
pub(super) fn any_case(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Scans a text that is one JSON object for the members with these names.
///
/// # Errors
/// When the text is not JSON, or not an object.
pub(super) fn scan<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
    same: SameName,
) -> Result<Members<'a, N>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = reader.deserialize_map(ObjectVisitor { names, same })?;
    reader.end()?;
    Ok(found)
}

/// The members with these names of a value that was already scanned.
///
/// # Errors
/// When the value is not an object.
pub(super) fn members<'a, const N: usize>(
    value: &'a RawValue,
    names: [&str; N],
    same: SameName,
) -> Result<Members<'a, N>, WrongShape> {
    if !value.get().starts_with('{') {
        return Err(WrongShape);
    }
    scan(value.get(), names, same).map_err(|_| WrongShape)
}

/// Hands each item of an array that was already scanned to `each`.
///
/// # Errors
/// When the value is not an array.
pub(super) fn items<'a>(
    value: &'a RawValue,
    each: impl FnMut(&'a RawValue),
) -> Result<(), WrongShape> {
    if !value.get().starts_with('[') {
        return Err(WrongShape);
    }
    let mut reader = serde_json::Deserializer::from_str(value.get());
    reader
        .deserialize_seq(ArrayVisitor(each))
        .map_err(|_| WrongShape)
}

/// A member's text: a string's content, a number's or boolean's own spelling, none for null.
///
/// # Errors
/// When the value is an object or an array.
pub(super) fn text(value: &RawValue) -> Result<Option<Cow<'_, str>>, WrongShape> {
    let spelling = value.get();
    match spelling.as_bytes().first() {
        Some(b'"') => Ok(Some(string_content(spelling))),
        Some(b'n') | None => Ok(None),
        Some(b'{' | b'[') => Err(WrongShape),
        Some(_) => Ok(Some(Cow::Borrowed(spelling))),
    }
}

/// A member that is there and not null.
pub(super) fn present(member: Option<&RawValue>) -> Option<&RawValue> {
    member.filter(|value| value.get() != "null")
}

/// The content of a well-formed JSON string, quotes included in `spelling`.
fn string_content(spelling: &str) -> Cow<'_, str> {
    let inner = &spelling[1..spelling.len() - 1];
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut reader = serde_json::Deserializer::from_str(spelling);
    // Read as bytes, since only then serde_json takes unpaired surrogates.
    reader
        .deserialize_bytes(StringVisitor)
        .map_or(Cow::Borrowed(""), Cow::Owned)
}

struct ObjectVisitor<'n, const N: usize> {
    names: [&'n str; N],
    same: SameName,
}

impl<'a, const N: usize> Visitor<'a> for ObjectVisitor<'_, N> {
    type Value = Members<'a, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(at) = map.next_key_seed(&self)? {
            match at {
                Some(at) => found[at] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Reads a name: which of the wanted ones it is, if any.
impl<'a, const N: usize> DeserializeSeed<'a> for &ObjectVisitor<'_, N> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_bytes(NameVisitor(self))
    }
}

struct NameVisitor<'v, 'n, const N: usize>(&'v ObjectVisitor<'n, N>);

impl<const N: usize> Visitor<'_> for NameVisitor<'_, '_, N> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(self
            .0
            .names
            .iter()
            .position(|wanted| (self.0.same)(wanted.as_bytes(), name)))
    }
}

struct ArrayVisitor<F>(F);

impl<'a, F: FnMut(&'a RawValue)> Visitor<'a> for ArrayVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item);
        }
        Ok(())
    }
}

struct StringVisitor;

impl Visitor<'_> for StringVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}
