//! Times as operators type and read them. What is shown is in UTC, and says so.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::EpochMs;

/// A time on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A point in time.
    At(EpochMs),
    /// So long before now.
    Ago(Duration),
}

/// It is neither of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write 2h for two hours ago, or a time with its zone, as 2026-11-26T14:00:00+05:30 or 2026-11-26T08:30:00Z"
)]
pub struct NoMoment;

impl Moment {
    /// The point in time that it is at `now`.
    #[must_use]
    pub fn at(self, now: EpochMs) -> EpochMs {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.minus(ago),
        }
    }
}

/// As it is typed.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(at) => f.write_str(&rfc3339_exact(*at)),
            Self::Ago(ago) => humantime::format_duration(*ago).fmt(f),
        }
    }
}

impl FromStr for Moment {
    type Err = NoMoment;

    fn from_str(text: &str) -> Result<Self, NoMoment> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let (local, offset_ms) = zone(text).ok_or(NoMoment)?;
        let local = humantime::parse_rfc3339(&format!("{local}Z")).map_err(|_| NoMoment)?;
        let since = local.duration_since(UNIX_EPOCH).map_err(|_| NoMoment)?;
        let local = i64::try_from(since.as_millis()).map_err(|_| NoMoment)?;
        Ok(Self::At(EpochMs(local - offset_ms)))
    }
}

/// A time without its zone, and how far the zone is ahead of UTC.
fn zone(text: &str) -> Option<(&str, i64)> {
    if let Some(local) = text.strip_suffix('Z') {
        return Some((local, 0));
    }
    let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let plain = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes) = (
        hours.parse::<i64>().ok().filter(|_| plain(hours))?,
        minutes.parse::<i64>().ok().filter(|_| plain(minutes))?,
    );
    (hours < 24 && minutes < 60).then_some((local, sign * (hours * 60 + minutes) * 60_000))
}

/// The last moment that has four digits for its year.
const LAST: i64 = 253_402_300_799_999;

/// A moment as RFC 3339, to the second, in UTC; a record may carry one that is none: then the figure.
#[must_use]
pub fn rfc3339(at: EpochMs) -> String {
    match u64::try_from(at.0) {
        Ok(ms) if at.0 <= LAST => {
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
        }
        Ok(_) | Err(_) => format!("{}ms", at.0),
    }
}

/// The same to the millisecond, where it is not at a full second: what is typed again is the same moment.
#[must_use]
pub fn rfc3339_exact(at: EpochMs) -> String {
    match u64::try_from(at.0) {
        Ok(ms) if at.0 <= LAST && ms % 1_000 != 0 => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
        }
        Ok(_) | Err(_) => rfc3339(at),
    }
}

/// The beginning of the hour that a moment is in.
#[must_use]
pub fn hour(at: EpochMs) -> EpochMs {
    EpochMs(at.0.saturating_sub(at.0.rem_euclid(3_600_000)))
}

/// A duration in its two largest units.
#[must_use]
pub fn in_short(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    let all = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    let words: Vec<&str> = all.split(' ').take(2).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOW: EpochMs = EpochMs(1_764_165_600_000);

    #[rstest]
    #[case("2h", 1_764_158_400_000)]
    #[case("1day 30m", 1_764_077_400_000)]
    #[case("2025-11-26T14:00:00Z", 1_764_165_600_000)]
    #[case("2025-11-26T14:00:00.250Z", 1_764_165_600_250)]
    #[case("2025-11-26T19:30:00+05:30", 1_764_165_600_000)]
    #[case("2025-11-26T06:00:00-08:00", 1_764_165_600_000)]
    fn a_moment_is_a_duration_ago_or_a_time_with_its_zone(#[case] text: &str, #[case] ms: i64) {
        let moment: Moment = text.parse().expect("a moment");
        assert_eq!(moment.at(NOW), EpochMs(ms));
    }

    #[rstest]
    #[case::no_zone("2025-11-26T14:00:00")]
    #[case::a_day("2025-11-26")]
    #[case::a_zone_by_name("2025-11-26T14:00:00 IST")]
    #[case::no_such_zone("2025-11-26T14:00:00+25:00")]
    #[case::a_sign_in_a_zone("2025-11-26T14:00:00++5:30")]
    #[case::no_such_month("2025-13-26T14:00:00Z")]
    #[case::a_figure("1764165600000")]
    #[case::nothing("")]
    #[case::not_ascii("२०२५-११")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert_eq!(text.parse::<Moment>(), Err(NoMoment));
    }

    #[test]
    fn times_are_shown_in_utc_and_what_is_none_as_its_figure() {
        assert_eq!(rfc3339(EpochMs(1_764_165_600_999)), "2025-11-26T14:00:00Z");
        assert_eq!(
            rfc3339(hour(EpochMs(1_764_169_199_999))),
            "2025-11-26T14:00:00Z"
        );
        assert_eq!(rfc3339(EpochMs(i64::MAX)), format!("{}ms", i64::MAX));
        assert_eq!(rfc3339(EpochMs(-1)), "-1ms");
        assert_eq!(hour(EpochMs(i64::MIN)).0, i64::MIN);
    }

    #[test]
    fn durations_are_short() {
        let short = |ms| in_short(Duration::from_millis(ms));
        assert_eq!(short(250), "250ms");
        assert_eq!(short(7_503_000), "2h 5m");
        assert_eq!(short(90_061_000), "1day 1h");
    }
    #[rstest]
    #[case(1_764_165_600_000, "2025-11-26T14:00:00Z")]
    #[case(1_764_165_600_007, "2025-11-26T14:00:00.007Z")]
    fn what_is_typed_again_is_the_same_moment(#[case] ms: i64, #[case] shown: &str) {
        let text = rfc3339_exact(EpochMs(ms));
        assert_eq!(text, shown);
        assert_eq!(text.parse(), Ok(Moment::At(EpochMs(ms))));
    }
}
