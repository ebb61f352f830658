//! `user-otp topics plan|apply`: what a plan looks like on a terminal.

use std::fmt::Write as _;

use crate::topics::{Item, Owner, State, in_words};

const HEADINGS: [&str; 5] = ["TOPIC", "PARTITIONS", "COPIES", "KEPT FOR", "STATE"];

/// The plan as a table, then a command for each missing topic that is not ours to create,
/// then a tally. `brokers` is what the commands connect to.
#[must_use]
pub fn render(items: &[Item], brokers: &str) -> String {
    let mut text = String::new();
    let rows: Vec<[String; 5]> = std::iter::once(HEADINGS.map(str::to_owned))
        .chain(items.iter().map(row))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 4] = std::array::from_fn(|column| width(column).unwrap_or_default());
    for [name, partitions, copies, kept, state] in &rows {
        let [w0, w1, w2, w3] = widths;
        let _ = writeln!(
            text,
            "{name:w0$}  {partitions:w1$}  {copies:w2$}  {kept:w3$}  {state}"
        );
    }
    let theirs: Vec<&Item> = items
        .iter()
        .filter(|item| is_theirs_to_create(item))
        .collect();
    if !theirs.is_empty() {
        text.push_str("\nThe platform creates its own topics. Where it has not:\n");
        for item in theirs {
            let _ = writeln!(text, "  {}", item.create_command(brokers));
        }
    }
    let _ = writeln!(text, "\n{}", tally(items));
    text
}

fn row(item: &Item) -> [String; 5] {
    [
        item.name.clone(),
        item.spec.partitions.to_string(),
        item.spec.replication.to_string(),
        in_words(item.spec.retention),
        state(item),
    ]
}

fn state(item: &Item) -> String {
    match (&item.state, item.spec.owner) {
        (State::Fine, Owner::Ours | Owner::Platform) => "fine".to_owned(),
        (State::Missing, Owner::Ours) => "missing: apply creates it".to_owned(),
        (State::Missing, Owner::Platform) => "missing: the platform's to create".to_owned(),
        (State::Differs(differences), Owner::Ours | Owner::Platform) => {
            let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
            format!("differs, left alone: has {}", differences.join("; "))
        }
    }
}

fn is_theirs_to_create(item: &Item) -> bool {
    item.state == State::Missing && item.spec.owner == Owner::Platform
}

fn tally(items: &[Item]) -> String {
    let count = |of: fn(&State) -> bool| items.iter().filter(|item| of(&item.state)).count();
    let (missing, differs) = (
        count(|state| matches!(state, State::Missing)),
        count(|state| matches!(state, State::Differs(_))),
    );
    let all = items.len();
    match (missing, differs) {
        (0, 0) => format!("All {all} topics are fine."),
        _ => format!(
            "{all} topics: {} fine, {missing} missing, {differs} different.",
            all - missing - differs
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::topics::{Found, Role, TopicSpec, catalog, plan};

    fn wanted(role: Role, name: &str) -> (String, TopicSpec) {
        let spec = catalog()
            .unwrap()
            .into_iter()
            .find(|spec| spec.role == role)
            .unwrap();
        (name.to_owned(), spec.on(1))
    }

    #[test]
    fn a_plan_is_a_table_that_says_who_creates_what() {
        let wanted = [
            wanted(Role::Requests, "egov.core.otp.request"),
            wanted(Role::Retry, "user-otp.retry.5s"),
            wanted(Role::JobLog, "user-otp.jobs"),
            wanted(Role::Sms, "egov.core.notification.sms.otp"),
        ];
        let found = HashMap::from([
            (
                "egov.core.otp.request".to_owned(),
                Found {
                    partitions: 4,
                    replication: 1,
                    ..Found::default()
                },
            ),
            (
                "user-otp.jobs".to_owned(),
                Found {
                    partitions: 1,
                    replication: 1,
                    ..Found::default()
                },
            ),
        ]);
        insta::assert_snapshot!(render(&plan(&wanted, &found), "kafka:9092"));
    }

    #[test]
    fn when_all_is_well_the_last_line_says_so() {
        let wanted = [wanted(Role::JobLog, "user-otp.jobs")];
        let found = HashMap::from([(
            "user-otp.jobs".to_owned(),
            Found {
                partitions: 1,
                replication: 1,
                ..Found::default()
            },
        )]);
        let text = render(&plan(&wanted, &found), "kafka:9092");
        assert_eq!(text.lines().last(), Some("All 1 topics are fine."));
    }
}
