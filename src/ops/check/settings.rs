//! Whether an OTP that arrives is still good: the settings' times against each other, and against
//! egov-otp's.

use std::time::Duration;

use super::item::{Area, Item};
use crate::config::Config;
use crate::ops::moment::in_short;

/// `otp_ttl` is how long egov-otp keeps an OTP, which it does not say.
pub(super) fn judge(config: &Config, otp_ttl: Duration) -> Vec<Item> {
    vec![
        lifetime(config, otp_ttl),
        expiry(config, otp_ttl),
        min_life(config),
        delays(config),
    ]
}

fn lifetime(config: &Config, otp_ttl: Duration) -> Item {
    let (lifetime, ttl) = (config.request.lifetime, in_short(otp_ttl));
    let said = format!("{}; egov-otp keeps an OTP for {ttl}", in_short(lifetime));
    if lifetime <= otp_ttl {
        return Item::ok(Area::Settings, "request.lifetime", said);
    }
    let detail = format!("{said}: one may be sent after it is no longer good");
    Item::failure(Area::Settings, "request.lifetime", detail)
        .fix(format!("request.lifetime = \"{ttl}\", or shorter"))
        .fix("or tell check what egov.otp.ttl really is: user-otp check --otp-ttl DURATION")
}

fn expiry(config: &Config, otp_ttl: Duration) -> Item {
    const NAME: &str = "sms.expiry_ms";
    /// A busy SMS consumer needs so long.
    const SHORT: Duration = Duration::from_secs(10);
    let expiry = config.sms.expiry;
    let said = format!("an SMS is dropped after {}", in_short(expiry));
    if expiry < SHORT {
        let detail = format!("{said}: a consumer that is busy for a moment sends none");
        return Item::warning(Area::Settings, NAME, detail).fix("sms.expiry_ms = 60000");
    }
    if expiry > otp_ttl {
        let detail = format!("{said}, when its OTP is no longer good");
        let fix = format!("sms.expiry_ms = {}, or less", otp_ttl.as_millis());
        return Item::warning(Area::Settings, NAME, detail).fix(fix);
    }
    Item::ok(
        Area::Settings,
        NAME,
        said + ", and never after its deadline",
    )
}

fn min_life(config: &Config) -> Item {
    const NAME: &str = "request.min_life";
    let min_life = config.request.min_life;
    let needed = config.users.timeout.max(config.localization.timeout) + config.otp.timeout;
    let said = format!(
        "{}; the services' answers may take {}",
        in_short(min_life),
        in_short(needed)
    );
    if needed <= min_life {
        return Item::ok(Area::Settings, NAME, said);
    }
    let detail = format!("{said}: requests that are begun expire while they wait");
    let fix = format!("request.min_life = \"{}\", or longer", in_short(needed));
    Item::warning(Area::Settings, NAME, detail).fix(fix)
}

fn delays(config: &Config) -> Item {
    const NAME: &str = "retry.delays";
    let room = config
        .request
        .lifetime
        .saturating_sub(config.request.min_life);
    let labels = |tiers: &[&str]| tiers.join(", ");
    let never = config.retry.delays.iter().filter(|tier| tier.delay >= room);
    let never: Vec<&str> = never.map(|tier| tier.label.as_str()).collect();
    if never.is_empty() {
        let all: Vec<&str> = config
            .retry
            .delays
            .iter()
            .map(|t| t.label.as_str())
            .collect();
        let detail = format!("{}: each leaves request.min_life", labels(&all));
        return Item::ok(Area::Settings, NAME, detail);
    }
    let detail = format!(
        "{} never leaves request.min_life of a lifetime",
        labels(&never)
    );
    let fix = format!(
        "leave it out of retry.delays: it is {} or longer",
        in_short(room)
    );
    Item::warning(Area::Settings, NAME, detail).fix(fix)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::item::Verdict;
    use super::*;

    fn config(settings: &[(&str, &str)]) -> Config {
        let settings = settings
            .iter()
            .map(|(key, value)| (format!("USER_OTP__{key}"), (*value).to_owned()));
        Config::load(None, settings).expect("right settings").0
    }

    #[test]
    fn the_defaults_are_well() {
        let items = judge(&config(&[]), Duration::from_secs(900));
        assert!(
            items.iter().all(|item| item.verdict == Verdict::Ok),
            "{items:?}"
        );
    }

    #[rstest]
    #[case::after_it_is_good(&[("REQUEST__LIFETIME", "20m")], "request.lifetime", Verdict::Failure)]
    #[case::dropped_at_once(&[("SMS__EXPIRY_MS", "2000")], "sms.expiry_ms", Verdict::Warning)]
    #[case::dropped_too_late(&[("SMS__EXPIRY_MS", "1000000")], "sms.expiry_ms", Verdict::Warning)]
    #[case::slower_than_it_has(&[("OTP__TIMEOUT", "20s")], "request.min_life", Verdict::Warning)]
    #[case::never_taken(&[("RETRY__DELAYS", "5s,4m50s")], "retry.delays", Verdict::Warning)]
    fn what_contradicts_is_said_with_its_fix(
        #[case] settings: &[(&str, &str)],
        #[case] name: &str,
        #[case] verdict: Verdict,
    ) {
        let items = judge(&config(settings), Duration::from_secs(900));
        let found = items
            .iter()
            .find(|item| item.name == name)
            .expect("an item");
        assert_eq!(found.verdict, verdict, "{found:?}");
        assert!(!found.fix.is_empty());
    }
}
