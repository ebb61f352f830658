//! Each service: whether it answers, in what time, and what its clock says.

use std::time::Duration;

use super::item::{Area, Item};
use crate::clock::EpochMs;
use crate::config::Config;
use crate::egov::probe::Look;
use crate::egov::{CallError, Service};
use crate::ops::moment::in_short;
use crate::outcome::Code;

/// The platform's name, and our section of settings.
fn names(service: Service) -> (&'static str, &'static str) {
    let section = match service {
        Service::Users => "users",
        Service::Otp => "otp",
        Service::Texts => "localization",
        Service::Rules => "mdms",
    };
    (service.platform_name(), section)
}

/// A service that is not configured.
pub(super) fn absent(service: Service) -> Item {
    let (name, section) = names(service);
    let instead = match service {
        Service::Texts => "the built-in texts serve",
        Service::Users | Service::Otp | Service::Rules => "rules.default_pattern decides",
    };
    let detail = format!("{section}.url is empty: {instead}");
    Item::ok(Area::Services, name, detail)
}

/// A service that cannot be asked without a tenant.
pub(super) fn unasked(service: Service) -> Item {
    let (name, _) = names(service);
    let detail = "not asked: no tenant is known";
    Item::warning(Area::Services, name, detail).fix("user-otp check --tenant TENANT")
}

/// Its answer; `what` says what was asked for, where that worked.
pub(super) fn judge<T>(service: Service, look: &Look<T>, what: &str) -> Item {
    let (name, section) = names(service);
    let took = look.took.as_millis();
    let error = match &look.result {
        Ok(_) if look.took * 2 > look.timeout => {
            let timeout = in_short(look.timeout);
            let detail =
                format!("{what}, in {took} ms: more than half of {section}.timeout, {timeout}");
            let fix = format!("find out why {name} is slow, or raise {section}.timeout");
            return Item::warning(Area::Services, name, detail).fix(fix);
        }
        Ok(_) => return Item::ok(Area::Services, name, format!("{what}, in {took} ms")),
        Err(error) => error,
    };
    let problem = match (error, look.status) {
        (CallError::Refused { status }, _) => format!("refuses (status {status})"),
        (CallError::Unavailable { code, .. }, None) if *code == Code::ServiceTimeout => {
            "no answer".to_owned()
        }
        (CallError::Unavailable { code, .. }, Some(status))
            if *code == Code::ServiceBrokenAnswer =>
        {
            format!("not an answer of its contract (status {status})")
        }
        (CallError::Unavailable { .. } | CallError::Abandoned, Some(status)) => {
            format!("away (status {status})")
        }
        (CallError::Unavailable { .. } | CallError::Abandoned, None) => "no connection".to_owned(),
    };
    let detail = format!("{problem}, in {took} ms");
    Item::failure(Area::Services, name, detail).fix(remedy(service, error))
}

fn remedy(service: Service, error: &CallError) -> String {
    let (name, section) = names(service);
    match error {
        CallError::Refused { status: 404 } => {
            format!("check {section}.url and {section}.path: there is no such path")
        }
        CallError::Refused { status: 401 | 403 } => {
            format!("let {section}.url be {name} itself, not a gateway that asks who we are")
        }
        CallError::Refused { .. } => {
            format!("look at the log of {name}: it refuses what it is asked")
        }
        CallError::Unavailable { code, .. } if *code == Code::ServiceTimeout => format!(
            "find out why {name} does not answer within {section}.timeout; its log says more"
        ),
        CallError::Unavailable { code, .. } if *code == Code::ServiceBrokenAnswer => {
            format!("check {section}.url: what answers there does not speak as {name} does")
        }
        CallError::Unavailable { .. } | CallError::Abandoned => {
            format!("check {section}.url, and that {name} is up; its log says more")
        }
    }
}

/// Its clock, where it said what it shows.
pub(super) fn clock<T>(service: Service, look: &Look<T>, config: &Config) -> Option<Item> {
    let (name, _) = names(service);
    Some(compared(name, look.ahead?, config))
}

/// The clock of the broker that dated a mark `latest`, which was written between two moments of ours.
pub(super) fn brokers_clock(
    latest: EpochMs,
    from: EpochMs,
    until: EpochMs,
    config: &Config,
) -> Item {
    let ahead = (latest.0 - until.0).max(0) + (latest.0 - from.0).min(0);
    compared("broker", ahead, config)
}

/// There was no mark to compare, or no answer.
pub(super) fn brokers_clock_unknown() -> Item {
    let detail = "what its clock says could not be looked at";
    Item::warning(Area::Clocks, "broker", detail)
        .fix("compare `date -u` here and on the brokers, then: user-otp check")
}

/// By how many milliseconds another clock is ahead of ours.
fn compared(name: &str, ahead: i64, config: &Config) -> Item {
    /// What a machine that keeps its time may be off, and the way of an answer.
    const WELL: Duration = Duration::from_secs(2);
    let off = Duration::from_millis(ahead.unsigned_abs());
    if off <= WELL {
        return Item::ok(Area::Clocks, name, "as ours");
    }
    let word = if ahead > 0 { "ahead of" } else { "behind" };
    let detail = format!("{} {word} ours", in_short(off));
    let item = if off > config.request.min_life {
        let detail = detail + ": deadlines mean something else there";
        Item::failure(Area::Clocks, name, detail)
    } else {
        Item::warning(Area::Clocks, name, detail)
    };
    item.fix(
        "compare `date -u` here and there, and mend the wrong one: timedatectl set-ntp true, or chronyc makestep",
    )
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::item::Verdict;
    use super::*;

    fn look(result: Result<(), CallError>, status: Option<u16>, took: u64) -> Look<()> {
        Look {
            took: Duration::from_millis(took),
            timeout: Duration::from_secs(2),
            status,
            ahead: None,
            result,
        }
    }

    fn unavailable(code: Code) -> Result<(), CallError> {
        Err(CallError::Unavailable {
            code,
            retry_after: None,
        })
    }

    #[rstest]
    #[case::well(look(Ok(()), Some(200), 12), Verdict::Ok, "")]
    #[case::slow(look(Ok(()), Some(200), 1_500), Verdict::Warning, "raise otp.timeout")]
    #[case::no_such_path(look(Err(CallError::Refused { status: 404 }), Some(404), 3), Verdict::Failure, "check otp.url and otp.path")]
    #[case::a_gateway(look(Err(CallError::Refused { status: 401 }), Some(401), 3), Verdict::Failure, "not a gateway")]
    #[case::down(
        look(unavailable(Code::ServiceUnavailable), None, 3),
        Verdict::Failure,
        "that egov-otp is up"
    )]
    #[case::late(
        look(unavailable(Code::ServiceTimeout), None, 2_000),
        Verdict::Failure,
        "within otp.timeout"
    )]
    #[case::a_page(
        look(unavailable(Code::ServiceBrokenAnswer), Some(200), 3),
        Verdict::Failure,
        "what answers there"
    )]
    fn each_answer_comes_with_what_to_do(
        #[case] look: Look<()>,
        #[case] verdict: Verdict,
        #[case] fix: &str,
    ) {
        let item = judge(Service::Otp, &look, "takes POST");
        assert_eq!((item.verdict, item.name.as_str()), (verdict, "egov-otp"));
        assert!(item.fix.join("").contains(fix), "{item:?}");
    }

    #[rstest]
    #[case(None, None, "")]
    #[case(Some(0), Some(Verdict::Ok), "as ours")]
    #[case(Some(4_000), Some(Verdict::Warning), "4s ahead of ours")]
    #[case(Some(-600_000), Some(Verdict::Failure), "10m behind ours")]
    fn a_clock_that_is_off_is_said(
        #[case] ahead: Option<i64>,
        #[case] verdict: Option<Verdict>,
        #[case] detail: &str,
    ) {
        let config = Config::load(None, []).expect("the defaults are right").0;
        let look = Look {
            ahead,
            ..look(Ok(()), Some(200), 1)
        };
        let item = clock(Service::Users, &look, &config);
        assert_eq!(item.as_ref().map(|item| item.verdict), verdict);
        assert!(
            item.map_or(String::new(), |item| item.detail)
                .starts_with(detail)
        );
    }

    #[rstest]
    #[case::while_it_was_written(1_500, "as ours")]
    #[case::a_little_later(3_500, "as ours")]
    #[case::ahead(5_000, "3s ahead of ours")]
    #[case::behind(-6_000, "7s behind ours")]
    fn a_mark_is_compared_with_when_it_was_written(#[case] latest: i64, #[case] detail: &str) {
        let config = Config::load(None, []).expect("the defaults are right").0;
        let item = brokers_clock(EpochMs(latest), EpochMs(1_000), EpochMs(2_000), &config);
        assert_eq!(item.detail, detail);
    }
}
