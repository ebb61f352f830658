//! What we may do, and the command that gives what we may not.

use std::collections::BTreeMap;

use super::AccountRole;
use super::item::{Area, Item, Verdict};
use crate::engine::trial::{Allowed, TrialError};

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    Read,
    Write,
}

/// A topic that it was tried on, and how bad it is where it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) topic: String,
    pub(super) verdict: Verdict,
    /// Completes "needed by".
    pub(super) by: &'static str,
}

impl Needed {
    pub(super) fn by_service(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            verdict: Verdict::Failure,
            by: "the service",
        }
    }

    pub(super) fn by_operators(topic: &str, by: &'static str) -> Self {
        Self {
            verdict: Verdict::Failure,
            ..Self::by_commands(topic, by)
        }
    }

    /// An operator's account may have it where this one does not.
    pub(super) fn by_commands(topic: &str, by: &'static str) -> Self {
        Self {
            topic: topic.to_owned(),
            verdict: Verdict::Warning,
            by,
        }
    }
}

/// Whom the commands speak of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account<'a> {
    pub(super) brokers: &'a str,
    /// None: the settings do not name it.
    pub(super) user: Option<&'a str>,
    pub(super) role: AccountRole,
}

impl Account<'_> {
    /// Whose permissions the other items are about.
    pub(super) fn introduced(&self) -> Item {
        let what = match self.role {
            AccountRole::Service => "the service's; --account judges them as an operator's",
            AccountRole::Viewer => "those of an operator who looks",
            AccountRole::Operator => "those of an operator who sends",
        };
        let detail = format!("its permissions are judged as {what}");
        let name = self
            .user
            .map_or_else(|| "account".to_owned(), |user| format!("account {user}"));
        Item::ok(Area::Permissions, &name, detail)
    }

    pub(super) fn grant(&self, operations: &[&str], on: &str) -> String {
        let operations = operations.iter().map(|one| format!(" --operation {one}"));
        format!(
            "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:{}{} {on}",
            self.brokers,
            self.user.unwrap_or("NAME"),
            operations.collect::<String>()
        )
    }
}

impl Tried {
    /// Kafka's operation, and what was done.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Read => ("Read", "fetched from"),
            Self::Write => ("Write", "written to, and taken back"),
        }
    }
}

/// One item where all is well, else one for each that is refused or not known.
pub(super) fn judge(
    tried: Tried,
    needed: &[Needed],
    found: &BTreeMap<String, Allowed>,
    account: Account<'_>,
) -> Vec<Item> {
    let (operation, done) = tried.words();
    let mut items = Vec::new();
    let mut well = 0;
    for one in needed {
        let name = format!("{operation} {}", one.topic);
        match found.get(&one.topic) {
            // The topics' own items say what is missing.
            None | Some(Allowed::Missing) => {}
            Some(Allowed::Yes) => well += 1,
            Some(Allowed::No) => {
                let detail = format!("refused; needed by {}", one.by);
                let grant =
                    account.grant(&[operation, "Describe"], &format!("--topic {}", one.topic));
                let mut item = Item::warning(Area::Permissions, &name, detail).fix(grant);
                item.verdict = one.verdict;
                items.push(item);
            }
            Some(Allowed::Unknown(stopped)) => {
                items.push(silent(&name, &format!("could not be tried ({stopped})")));
            }
        }
    }
    if well > 0 {
        let name = format!("{operation} topics");
        items.insert(
            0,
            Item::ok(Area::Permissions, &name, format!("{well} {done}")),
        );
    }
    items
}

/// Why no transaction could be tried.
pub(super) fn no_trial(error: &TrialError, account: Account<'_>, prefix: &str) -> Item {
    const NAME: &str = "transactional id";
    let detail = error.to_string();
    match error {
        TrialError::Forbidden(_) => {
            let on = format!("--transactional-id {prefix} --resource-pattern-type prefixed");
            let fix = account.grant(&["Write", "Describe"], &on);
            Item::failure(Area::Permissions, NAME, detail).fix(fix)
        }
        TrialError::Taken(_) => {
            Item::warning(Area::Permissions, NAME, detail).fix("let it end, then: user-otp check")
        }
        TrialError::Silent(_) => silent(NAME, &detail),
    }
}

/// The service's group.
pub(super) fn group(group: &str, found: &Allowed, account: Account<'_>) -> Option<Item> {
    let name = format!("Describe group {group}");
    let (operations, by): (&[&str], _) = match account.role {
        AccountRole::Service => (&["Read", "Describe"], "the service"),
        AccountRole::Viewer | AccountRole::Operator => (&["Describe"], "status"),
    };
    Some(match found {
        Allowed::Yes => {
            let detail = match account.role {
                AccountRole::Service => {
                    "its offsets may be looked at; Read, which joining needs, shows when the service starts"
                }
                AccountRole::Viewer | AccountRole::Operator => "its offsets may be looked at",
            };
            Item::ok(Area::Permissions, &name, detail)
        }
        Allowed::No => {
            let fix = account.grant(operations, &format!("--group {group}"));
            let detail = format!("refused; needed by {by}");
            Item::failure(Area::Permissions, &name, detail).fix(fix)
        }
        Allowed::Missing => return None,
        Allowed::Unknown(stopped) => silent(&name, &format!("could not be tried ({stopped})")),
    })
}

/// Who only looks has no transactional id to try it with.
pub(super) fn untried(topic: &str) -> Item {
    let detail = "not tried, since a record would stay; --reveal, which alone needs it, shows nothing where it is refused";
    Item::ok(Area::Permissions, &format!("Write {topic}"), detail)
}

/// A call that did not return.
pub(super) fn hung(name: &str) -> Item {
    silent(name, "could not be tried: a call to Kafka does not return")
}

fn silent(name: &str, detail: &str) -> Item {
    Item::failure(Area::Permissions, name, detail)
        .fix("look at the brokers' logs, then again with more time: user-otp check --timeout 30s")
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;
    use crate::engine::Stopped;

    const ACCOUNT: Account<'_> = Account {
        brokers: "kafka:9092",
        user: Some("user-otp"),
        role: AccountRole::Service,
    };
    const VIEWER: Account<'_> = Account {
        user: Some("otp-viewer"),
        role: AccountRole::Viewer,
        ..ACCOUNT
    };

    fn judged(allowed: Allowed) -> Vec<Item> {
        let needed = [
            Needed::by_service("well"),
            Needed::by_service("a.sms"),
            Needed::by_commands("not.there", "redrive"),
        ];
        let found = BTreeMap::from([
            ("well".to_owned(), Allowed::Yes),
            ("a.sms".to_owned(), allowed),
            ("not.there".to_owned(), Allowed::Missing),
        ]);
        judge(Tried::Write, &needed, &found, ACCOUNT)
    }

    #[test]
    fn what_is_allowed_is_one_line() {
        let items = judged(Allowed::Yes);
        assert_eq!(items.len(), 1);
        assert_eq!((items[0].verdict, items[0].fix.len()), (Verdict::Ok, 0));
    }

    #[test]
    fn what_is_refused_comes_with_the_command() {
        let items = judged(Allowed::No);
        assert_eq!(items.len(), 2);
        assert_eq!(
            (items[1].verdict, items[1].name.as_str()),
            (Verdict::Failure, "Write a.sms")
        );
        let command = "kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal User:user-otp --operation \
                       Write --operation Describe --topic a.sms";
        assert_eq!(items[1].fix, [command]);
    }

    #[test]
    fn what_is_not_known_is_not_well() {
        let stopped = Stopped::from(&KafkaError::MetadataFetch(
            RDKafkaErrorCode::OperationTimedOut,
        ));
        let items = judged(Allowed::Unknown(stopped.clone()));
        assert_eq!(items[1].verdict, Verdict::Failure);
        let no_trial = no_trial(&TrialError::Silent(stopped), ACCOUNT, "user-otp-");
        assert_eq!(no_trial.verdict, Verdict::Failure);
    }

    #[test]
    fn ids_and_groups_have_commands_of_their_own() {
        let forbidden = TrialError::Forbidden("user-otp-a-check".to_owned());
        let item = no_trial(&forbidden, ACCOUNT, "user-otp-");
        assert!(
            item.fix[0].ends_with("--transactional-id user-otp- --resource-pattern-type prefixed")
        );
        let item = group("user-otp", &Allowed::No, ACCOUNT).expect("an item");
        assert!(item.fix[0].ends_with("--operation Read --operation Describe --group user-otp"));
        let item = group("user-otp", &Allowed::No, VIEWER).expect("an item");
        assert!(item.fix[0].ends_with("User:otp-viewer --operation Describe --group user-otp"));
    }
}
