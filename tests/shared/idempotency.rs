//! Idempotency keys: what holds in memory and in Redis alike, and what only Redis can promise.

use std::time::Duration;

use rstest::rstest;
use user_otp::clock::{Clock, EpochMs};
use user_otp::domain::request::Submission;
use user_otp::idempotency::{Begin, Bounds, Fingerprint, Idempotency, Lease};
use user_otp::store::Store;

use crate::server::Redis;
use crate::{START, clock, run, sharing, store};

const BOUNDS: Bounds = Bounds {
    window: Duration::from_secs(600),
    lease: Duration::from_secs(8),
    entries: 100,
};

#[derive(Debug, Clone, Copy)]
enum Kept {
    InMemory,
    InRedis,
}

/// One instance, the clock, and another instance with the same store.
struct World {
    here: Idempotency,
    /// The same one where there is no Redis.
    there: Idempotency,
    clock: Clock,
}

fn login(mobile: &str) -> Fingerprint {
    let body = format!(
        r#"{{"otp":{{"tenantId":"pb.amritsar","mobileNumber":"{mobile}","type":"login"}}}}"#
    );
    Fingerprint::of(&Submission::decode(body.as_bytes()).expect("a request"))
}

fn instance(store: Option<Store>, clock: &Clock) -> Idempotency {
    Idempotency::new(BOUNDS, store, clock.clone())
}

/// Runs one test in memory, or between two instances on one Redis.
fn check(kept: Kept, test: impl AsyncFnOnce(World)) {
    match kept {
        Kept::InMemory => run(async {
            let clock = clock();
            let here = instance(None, &clock);
            let there = here.clone();
            test(World { here, there, clock }).await;
        }),
        Kept::InRedis => {
            let redis = Redis::start();
            run(async {
                let (clock, config) = (clock(), sharing(&redis, "idempotency", &[]));
                let here = instance(store(&config).await, &clock);
                let there = instance(store(&config).await, &clock);
                test(World { here, there, clock }).await;
            });
        }
    }
}

async fn first(keys: &Idempotency, mobile: &str) -> Lease {
    match keys.begin("key", &login(mobile)).await {
        Begin::First(lease) => lease,
        other @ (Begin::Done | Begin::Unconfirmed | Begin::Conflict | Begin::Busy) => {
            panic!("{other:?}")
        }
    }
}

async fn word(keys: &Idempotency, mobile: &str) -> &'static str {
    match keys.begin("key", &login(mobile)).await {
        Begin::First(lease) => {
            lease.forget();
            "first"
        }
        Begin::Done => "done",
        Begin::Unconfirmed => "unconfirmed",
        Begin::Conflict => "conflict",
        Begin::Busy => "busy",
    }
}

const ONE: &str = "9876543210";
const OTHER: &str = "9876543211";

#[rstest]
fn a_key_stands_for_its_first_requests_201_until_its_window_ends(
    #[values(Kept::InMemory, Kept::InRedis)] kept: Kept,
) {
    check(kept, async |World { here, there, clock }| {
        let mut lease = first(&here, ONE).await;
        assert!(lease.sending().await);
        lease.done().await;
        for keys in [&here, &there] {
            assert_eq!(word(keys, ONE).await, "done");
            assert_eq!(word(keys, OTHER).await, "conflict");
        }
        clock.set(EpochMs(START + 599_999));
        assert_eq!(word(&here, ONE).await, "done");
    });
}

#[rstest]
fn any_other_answer_forgets_the_key(#[values(Kept::InMemory, Kept::InRedis)] kept: Kept) {
    check(kept, async |World { here, there, .. }| {
        first(&here, ONE).await.forget();
        tokio::task::yield_now().await;
        assert_eq!(word(&there, OTHER).await, "first");
        tokio::task::yield_now().await;
        // A handler that ends by a defect.
        drop(first(&here, ONE).await);
        tokio::task::yield_now().await;
        assert_eq!(word(&there, ONE).await, "first");
        tokio::task::yield_now().await;
        // Withdrawn before it was sent, although its transaction was about to begin.
        let mut lease = first(&here, ONE).await;
        assert!(lease.sending().await);
        lease.forget();
        tokio::task::yield_now().await;
        assert_eq!(word(&there, ONE).await, "first");
    });
}

#[rstest]
fn the_second_of_two_waits_for_the_firsts_answer(
    #[values(Kept::InMemory, Kept::InRedis)] kept: Kept,
    #[values(true, false)] is_sent: bool,
) {
    check(kept, async |World { here, there, .. }| {
        let mut lease = first(&here, ONE).await;
        let login = login(ONE);
        let mut second = Box::pin(there.begin("key", &login));
        tokio::select! {
            biased;
            begun = &mut second => panic!("it did not wait: {begun:?}"),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        assert!(lease.sending().await);
        if is_sent {
            lease.done().await;
        } else {
            lease.forget();
        }
        match (second.await, is_sent) {
            (Begin::Done, true) | (Begin::First(_), false) => {}
            (other, _) => panic!("{other:?}"),
        }
    });
}

#[rstest]
fn what_may_have_been_sent_is_not_sent_again(#[values(Kept::InMemory, Kept::InRedis)] kept: Kept) {
    check(kept, async |World { here, there, clock }| {
        let mut lease = first(&here, ONE).await;
        assert!(lease.sending().await);
        lease.unconfirmed();
        tokio::task::yield_now().await;
        assert_eq!(word(&there, ONE).await, "unconfirmed");
        clock.set(EpochMs(START + 599_999));
        assert_eq!(word(&there, ONE).await, "unconfirmed");
        assert_eq!(word(&there, OTHER).await, "conflict");
        // The commit becomes known after all.
        lease.done().await;
        assert_eq!(word(&there, ONE).await, "done");
    });
}

#[rstest]
fn a_lease_that_ran_out_is_the_next_ones(#[values(Kept::InMemory, Kept::InRedis)] kept: Kept) {
    check(kept, async |World { here, there, clock }| {
        let mut late = first(&here, ONE).await;
        clock.set(EpochMs(START + 8_000));
        let mut lease = first(&there, ONE).await;
        assert!(!late.sending().await, "nothing may be sent under it");
        late.forget();
        tokio::task::yield_now().await;
        assert!(lease.sending().await, "the next one's is untouched");
        lease.done().await;
        assert_eq!(word(&here, ONE).await, "done");
    });
}

#[test]
fn who_waited_for_a_whole_lease_and_finds_yet_another_before_it_is_told_so() {
    check(Kept::InMemory, async |World { here, clock, .. }| {
        let lease = first(&here, ONE).await;
        let login = login(ONE);
        let mut second = Box::pin(here.begin("key", &login));
        tokio::select! {
            biased;
            begun = &mut second => panic!("it did not wait: {begun:?}"),
            () = tokio::task::yield_now() => {}
        }
        clock.set(EpochMs(START + 4_000));
        lease.forget();
        // Before the second one has looked.
        let _third = first(&here, ONE).await;
        clock.set(EpochMs(START + 7_999));
        tokio::select! {
            biased;
            begun = &mut second => panic!("it did not wait for its whole lease: {begun:?}"),
            () = tokio::task::yield_now() => {}
        }
        clock.set(EpochMs(START + 8_000));
        // Whatever key is answered, all look.
        drop(here.begin("another", &login).await);
        let told = tokio::time::timeout(Duration::from_secs(30), second).await;
        assert!(matches!(told, Ok(Begin::Busy)), "{told:?}");
    });
}

#[test]
fn the_window_ends() {
    check(Kept::InMemory, async |World { here, clock, .. }| {
        let mut lease = first(&here, ONE).await;
        assert!(lease.sending().await);
        drop(lease);
        assert_eq!(word(&here, ONE).await, "unconfirmed");
        clock.set(EpochMs(START + 600_000));
        assert_eq!(word(&here, OTHER).await, "first");
    });
}

#[test]
fn redis_remembers_across_a_restart() {
    let redis = Redis::start();
    run(async {
        let (clock, config) = (clock(), sharing(&redis, "restart", &[]));
        let before = instance(store(&config).await, &clock);
        let mut lease = first(&before, ONE).await;
        assert!(lease.sending().await);
        // SIGKILL: nobody says what became of it.
        std::mem::forget(lease);
        drop(before);
        clock.set(EpochMs(START + 8_000));
        let after = instance(store(&config).await, &clock);
        assert_eq!(word(&after, ONE).await, "unconfirmed");
    });
}

#[test]
fn without_redis_a_key_is_this_instances_alone() {
    let mut redis = Redis::start();
    run(async {
        let (clock, config) = (clock(), sharing(&redis, "away", &[]));
        let keys = instance(store(&config).await, &clock);
        first(&keys, ONE).await.done().await;
        redis.kill();
        assert_eq!(word(&keys, ONE).await, "done");
        let Begin::First(lease) = keys.begin("another", &login(ONE)).await else {
            panic!("it is begun all the same");
        };
        lease.done().await;
    });
}
