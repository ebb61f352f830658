//! The administration client on a real broker. `scripts/test` starts one and sets
//! `OTP_TEST_KAFKA`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use rdkafka::ClientConfig;
use user_otp::engine::admin::{Admin, AdminError};
use user_otp::topics::{Role, State, TopicSpec, catalog, plan};

const TIMEOUT: Duration = Duration::from_secs(10);

#[expect(clippy::disallowed_methods, reason = "the tests' own configuration")]
fn broker() -> String {
    std::env::var("OTP_TEST_KAFKA")
        .expect("OTP_TEST_KAFKA=host:port names the broker to test with; scripts/test starts one")
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

async fn admin() -> Admin {
    Admin::connect(config(&broker()), TIMEOUT).await.unwrap()
}

fn spec(role: Role) -> TopicSpec {
    catalog()
        .unwrap()
        .into_iter()
        .find(|spec| spec.role == role)
        .unwrap()
}

/// A name that no other test has.
fn name(stem: &str) -> String {
    format!("{stem}-{}", uuid::Uuid::new_v4().simple())
}

#[tokio::test]
async fn what_is_created_is_found_fine_and_creating_it_again_is_too() {
    let admin = admin().await;
    let brokers = admin.brokers().await.unwrap();
    let wanted: Vec<(String, TopicSpec)> = catalog()
        .unwrap()
        .into_iter()
        .map(|spec| (name(spec.role.as_str()), spec.on(brokers)))
        .collect();
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();

    let before = plan(&wanted, &admin.found(&names).await.unwrap());
    assert!(
        before.iter().all(|item| item.state == State::Missing),
        "{before:?}"
    );

    for _ in 0..2 {
        admin.create(&wanted, brokers).await.unwrap();
        let after = plan(&wanted, &admin.found(&names).await.unwrap());
        assert!(
            after.iter().all(|item| item.state == State::Fine),
            "{after:?}"
        );
    }
    let listed = admin.list_topics().await.unwrap();
    assert!(names.iter().all(|name| listed.contains(name)));
}

/// As a broker before 3.6 does, which knows no such bound.
#[tokio::test]
async fn a_cluster_that_refuses_the_bounds_of_times_gets_the_topic_without() {
    let admin = admin().await;
    let topic = (
        name("unbounded"),
        TopicSpec {
            timestamp_before_max: Some(Duration::MAX),
            ..spec(Role::Retry).on(1)
        },
    );
    admin.create(std::slice::from_ref(&topic), 1).await.unwrap();
    let found = admin.found(std::slice::from_ref(&topic.0)).await.unwrap();
    let configs = &found[&topic.0].configs;
    assert_eq!(
        configs["message.timestamp.before.max.ms"],
        i64::MAX.to_string()
    );
    assert_eq!(configs["retention.ms"], "604800000", "and with all else");
}

#[tokio::test]
async fn an_existing_topic_keeps_its_figures() {
    let admin = admin().await;
    let small = TopicSpec {
        partitions: 2,
        retention: Duration::from_secs(60),
        ..spec(Role::DeadLetters).on(1)
    };
    let topic = name("small");
    admin.create(&[(topic.clone(), small)], 1).await.unwrap();

    let wanted = [(topic.clone(), spec(Role::DeadLetters).on(1))];
    admin.create(&wanted, 1).await.unwrap();

    let found = admin.found(std::slice::from_ref(&topic)).await.unwrap();
    assert_eq!(found[&topic].partitions, 2);
    let State::Differs(differences) = &plan(&wanted, &found)[0].state else {
        panic!("a smaller topic passed for a fine one")
    };
    let said: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["2 partitions, not 4", "kept for 1m, not 14 days"]);
}

#[tokio::test]
async fn to_ask_for_a_topic_does_not_create_it() {
    let admin = admin().await;
    let topic = name("absent");
    let patience = Duration::from_millis(300);
    for _ in 0..2 {
        let found = admin
            .found_within(std::slice::from_ref(&topic), patience)
            .await
            .unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
    assert!(!admin.list_topics().await.unwrap().contains(&topic));
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_unreachable() {
    // Bound, so that nobody else takes the port, and never accepting.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let brokers = nobody.local_addr().unwrap().to_string();
    let answer = Admin::connect(config(&brokers), Duration::from_secs(1)).await;
    assert!(matches!(answer, Err(AdminError::Unreachable(_))));
}

#[tokio::test]
async fn a_wrong_property_is_named_but_its_value_is_not_shown() {
    let mut config = config("127.0.0.1:1");
    config.set("sasl.pasword", "hunter2");
    let Err(error) = Admin::connect(config, TIMEOUT).await else {
        panic!("an unknown property was taken")
    };
    assert!(error.to_string().contains("sasl.pasword"), "{error}");
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
}
