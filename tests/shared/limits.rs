//! Limits that instances share.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use user_otp::clock::{Clock, EpochMs};
use user_otp::config::Config;
use user_otp::domain::contact::MobileNumber;
use user_otp::domain::request::RequestType;
use user_otp::limits::{self, Charge, Clients, Health, Limits, Source};
use user_otp::outcome::{Limit, Limited};

use crate::server::Redis;
use crate::{START, clock, config, request, run, sharing, store};

const NUMBER: &str = "9876543210";

async fn instance(config: &Config, clock: &Clock) -> Limits {
    Limits::new(config, store(config).await, clock.clone())
}

/// A login of one number, received at `received`.
async fn charge(limits: &Limits, mobile: &str, source: &str, received: i64) -> Result<(), Limited> {
    let charge = Charge::due(Source::new(source), EpochMs(received));
    limits
        .charge(&request(mobile, RequestType::Login), &charge)
        .await
}

fn refused(limit: Limit, seconds: u64) -> Result<(), Limited> {
    Err(Limited {
        limit,
        retry_after: Duration::from_secs(seconds),
    })
}

#[derive(Debug, Clone)]
enum Step {
    Charge {
        source: u8,
        number: u8,
        kind: RequestType,
        late: i64,
    },
    GiveBack {
        source: u8,
    },
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(RequestType::Login), Just(RequestType::Register)];
    let late = prop_oneof![3 => Just(0), 1 => 0..40_000i64];
    let charge =
        (any::<u8>(), 0..3u8, kind, late).prop_map(|(source, number, kind, late)| Step::Charge {
            source,
            number,
            kind,
            late,
        });
    prop_oneof![
        8 => charge,
        1 => any::<u8>().prop_map(|source| Step::GiveBack { source }),
        3 => (0..20_000i64).prop_map(Step::Pass),
    ]
}

#[test]
fn redis_decides_as_memory_does() {
    let redis = Redis::start();
    let settings = [
        ("LIMITS__NUMBER_COUNT", "3"),
        ("LIMITS__NUMBER_WINDOW", "1m"),
        ("LIMITS__PREFIX", "on"),
        ("LIMITS__PREFIX_COUNT", "6"),
        ("LIMITS__PREFIX_WINDOW", "2m"),
    ];
    let mut runner = TestRunner::new(Runs::with_cases(48));
    let checked = runner.run(&prop::collection::vec(step(), 1..60), |steps| {
        let group = uuid::Uuid::new_v4().simple().to_string();
        run(async {
            let clock = clock();
            let (shared, alone) = (sharing(&redis, &group, &settings), config(&settings));
            let (shared, alone) = (
                instance(&shared, &clock).await,
                instance(&alone, &clock).await,
            );
            let mut now = START;
            for step in steps {
                match step {
                    Step::Charge {
                        source,
                        number,
                        kind,
                        late,
                    } => {
                        let request = request(&format!("987654320{number}"), kind);
                        let due =
                            || Charge::due(Source::new(&source.to_string()), EpochMs(now - late));
                        let (theirs, ours) = (due(), due());
                        assert_eq!(
                            shared.charge(&request, &theirs).await,
                            alone.charge(&request, &ours).await,
                        );
                        assert_eq!(theirs.is_done(), ours.is_done());
                    }
                    Step::GiveBack { source } => {
                        let charge = Charge::due(Source::new(&source.to_string()), EpochMs(now));
                        shared.give_back(&charge);
                        alone.give_back(&charge);
                        tokio::task::yield_now().await;
                    }
                    Step::Pass(time) => {
                        now += time;
                        clock.set(EpochMs(now));
                    }
                }
            }
            assert_eq!(shared.health(), Health::Redis);
            assert_eq!(shared.reached(), alone.reached());
        });
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn instances_on_one_redis_agree() {
    let redis = Redis::start();
    run(async {
        let (clock, config) = (clock(), sharing(&redis, "agree", &[]));
        let (a, b) = (
            instance(&config, &clock).await,
            instance(&config, &clock).await,
        );
        assert_eq!(charge(&a, NUMBER, "1", START).await, Ok(()));
        assert_eq!(
            charge(&b, NUMBER, "2", START).await,
            refused(Limit::NumberType, 30)
        );
        // The same request comes to the same, wherever it is handled again.
        assert_eq!(charge(&b, NUMBER, "1", START).await, Ok(()));
        clock.set(EpochMs(START + 31_000));
        assert_eq!(
            charge(&a, NUMBER, "2", START).await,
            refused(Limit::NumberType, 0)
        );
        assert_eq!(charge(&a, NUMBER, "3", START + 31_000).await, Ok(()));
    });
}

#[test]
fn another_group_on_the_same_redis_is_another_world() {
    let redis = Redis::start();
    run(async {
        let clock = clock();
        for group in ["one", "two"] {
            let limits = instance(&sharing(&redis, group, &[]), &clock).await;
            assert_eq!(charge(&limits, NUMBER, "1", START).await, Ok(()), "{group}");
        }
    });
}

async fn wait_for_redis(limits: &Limits) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while limits.health() != Health::Redis {
        assert!(Instant::now() < deadline, "it is found again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn without_redis_the_instance_limits_alone_and_says_so() {
    let mut redis = Redis::start();
    run(async {
        let (clock, config) = (
            clock(),
            sharing(&redis, "away", &[("LIMITS__REDIS_TIMEOUT", "100ms")]),
        );
        let limits = instance(&config, &clock).await;
        assert_eq!(limits.health(), Health::Redis);
        assert_eq!(charge(&limits, NUMBER, "1", START).await, Ok(()));
        redis.freeze();
        // What Redis took was noted here.
        let second = charge(&limits, NUMBER, "2", START).await;
        assert_eq!(second, refused(Limit::NumberType, 30));
        assert_eq!(limits.health(), Health::RedisAway);
        assert_eq!(charge(&limits, "9876543211", "3", START).await, Ok(()));
        redis.thaw();
        wait_for_redis(&limits).await;
        redis.kill();
        for number in 0..20 {
            let mobile = format!("98765432{number:02}");
            let taken = charge(&limits, &mobile, &mobile, START + 60_000).await;
            assert_eq!(taken, Ok(()));
        }
        assert_eq!(limits.health(), Health::RedisAway);
        redis.start_again();
        wait_for_redis(&limits).await;
    });
}

#[test]
fn a_redis_that_was_never_there_is_no_reason_not_to_start() {
    let mut redis = Redis::start();
    redis.kill();
    run(async {
        let limits = instance(&sharing(&redis, "never", &[]), &clock()).await;
        assert_eq!(limits.health(), Health::RedisAway);
        assert_eq!(charge(&limits, NUMBER, "1", START).await, Ok(()));
    });
}

#[test]
fn nothing_in_redis_tells_a_number_and_everything_expires() {
    let redis = Redis::start();
    run(async {
        let config = sharing(&redis, "secret", &[("LIMITS__KEY", "sesame")]);
        let limits = instance(&config, &clock()).await;
        let client = Clients::of(&config).map(|clients| clients.name([203, 0, 113, 7].into()));
        let due = Charge::due(Source::new("requests-0-1"), EpochMs(START)).from_client(client);
        let asked = request(NUMBER, RequestType::Login);
        assert_eq!(limits.charge(&asked, &due).await, Ok(()));

        let client =
            redis::Client::open(format!("redis://{}", redis.address())).expect("an address");
        let mut client = client
            .get_multiplexed_async_connection()
            .await
            .expect("it is there");
        let keys: Vec<String> = ask(&mut client, &["KEYS", "*"]).await;
        // The verdict, and one for each limit.
        assert_eq!(keys.len(), 1 + Limit::ALL.len(), "{keys:?}");
        for key in &keys {
            let expires: i64 = ask(&mut client, &["PTTL", key]).await;
            assert!(expires > 0, "{key} stays for ever");
            let dump = match ask::<String>(&mut client, &["TYPE", key]).await.as_str() {
                "string" => ask::<String>(&mut client, &["GET", key]).await,
                _ => ask::<Vec<String>>(&mut client, &["ZRANGE", key, "0", "-1"])
                    .await
                    .join(" "),
            };
            for secret in [NUMBER, "987654", "203.0.113.7", "amritsar", "requests-0"] {
                assert!(
                    !key.contains(secret) && !dump.contains(secret),
                    "{key}: {dump}"
                );
            }
        }
    });
}

async fn ask<T: redis::FromRedisValue>(
    client: &mut redis::aio::MultiplexedConnection,
    words: &[&str],
) -> T {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query_async(client).await.expect("an answer")
}

#[test]
fn support_sees_what_a_number_was_charged_and_clears_it() {
    let redis = Redis::start();
    run(async {
        let (clock, config) = (clock(), sharing(&redis, "support", &[]));
        let limits = instance(&config, &clock).await;
        let store = store(&config).await.expect("a store");
        let mobile = MobileNumber::parse("98765-43210").expect("a number");
        let now = EpochMs(START + 10_000);
        assert_eq!(charge(&limits, NUMBER, "1", START).await, Ok(()));

        let shown = limits::show(&store, &config, &mobile, now)
            .await
            .expect("an answer");
        let login = shown
            .iter()
            .find(|one| one.kind == Some(RequestType::Login))
            .expect("a limit for logins");
        assert_eq!(
            (login.charged, login.count, login.free_in.as_secs()),
            (1, 1, 20)
        );
        let number = shown
            .iter()
            .find(|one| one.limit == Limit::Number)
            .expect("a limit");
        assert_eq!(
            (number.charged, number.count, number.free_in),
            (1, 5, Duration::ZERO)
        );

        let cleared = limits::clear(&store, &config, &mobile).await;
        assert_eq!(
            cleared,
            Some(3),
            "of its type, of the number, of the number a day"
        );
        assert_eq!(charge(&limits, NUMBER, "2", START).await, Ok(()));
    });
}

#[test]
fn a_redis_that_does_not_let_us_write_is_away() {
    let redis = Redis::start();
    run(async {
        let client =
            redis::Client::open(format!("redis://{}", redis.address())).expect("an address");
        let mut client = client
            .get_multiplexed_async_connection()
            .await
            .expect("it is there");
        let _: String = ask(&mut client, &["REPLICAOF", "127.0.0.1", "1"]).await;
        let limits = instance(&sharing(&redis, "replica", &[]), &clock()).await;
        assert_eq!(limits.health(), Health::RedisAway);
        let _: String = ask(&mut client, &["REPLICAOF", "NO", "ONE"]).await;
        let limits = instance(&sharing(&redis, "primary", &[]), &clock()).await;
        assert_eq!(limits.health(), Health::Redis);
    });
}

#[test]
fn what_an_address_was_refused_stays_refused_where_the_address_is_not_known() {
    let redis = Redis::start();
    run(async {
        let settings = [
            ("HTTP__TRUSTED_PROXIES", "10.0.0.0/8"),
            ("LIMITS__ADDRESS", "on"),
            ("LIMITS__ADDRESS_COUNT", "1"),
        ];
        let config = sharing(&redis, "address", &settings);
        let limits = instance(&config, &clock()).await;
        let client = Clients::of(&config).map(|clients| clients.name([203, 0, 113, 7].into()));
        let due = |source| Charge::due(Source::new(source), EpochMs(START));
        let at_the_door = |source| due(source).from_client(client);
        let (one, other) = (
            request(NUMBER, RequestType::Login),
            request("9876543211", RequestType::Login),
        );
        assert_eq!(limits.charge(&one, &at_the_door("1")).await, Ok(()));
        let second = limits.charge(&other, &at_the_door("2")).await;
        assert_eq!(second, refused(Limit::Address, 600));
        // Handed over by a door that gave up before it had the answer.
        let on_the_stream = limits.charge(&other, &due("2")).await;
        assert_eq!(on_the_stream, refused(Limit::Address, 600));
    });
}
