//! The engine's end.

use super::supersede::tests::NOW;
use super::transaction::tests::settings;
use super::*;
use crate::metrics::Metrics;

/// How long the keeper's question may take here.
const PATIENCE: Duration = Duration::from_secs(60);

/// The keeper may wait for an answer; the other members of the group do not wait for it.
#[test]
fn the_instance_leaves_the_group_before_the_keepers_question_is_answered() {
    let (metrics, topics) = (Metrics::default(), KnownTopics::default());
    let core = Arc::new(Core::new(
        settings(None),
        Clock::fixed(NOW),
        metrics,
        topics,
    ));
    let (notes, _noted) = mpsc::channel();
    let callbacks = Callbacks::new(Arc::clone(&core), notes.clone());
    let consumer = core.settings.connection.consumer();
    let consumer: Consumer = consumer.create_with_context(callbacks).expect("a consumer");
    consumer.subscribe(&["requests"]).expect("a subscription");
    let consumer = Arc::new(consumer);
    let (subscribed, waiting) = (Arc::clone(&consumer), Arc::clone(&core));
    let (answer, has_left) = mpsc::channel();
    let keeper = std::thread::spawn(move || {
        let deadline = Instant::now() + PATIENCE;
        let is_member = || {
            let subscription = subscribed.subscription();
            subscription.is_ok_and(|topics| topics.count() > 0)
        };
        while is_member() && Instant::now() < deadline {
            waiting.wait_until(Duration::from_millis(1), |_| false);
        }
        answer.send(!is_member()).expect("somebody listens");
    });
    let (drain, _drain_for) = mpsc::channel();
    let engine = Engine {
        core,
        threads: Some(Threads {
            intake: std::thread::spawn(|| true),
            committer: std::thread::spawn(|| ()),
            keeper,
            drain,
        }),
        consumer: Some(consumer),
        notes,
    };
    let drained = engine.shut_down(PATIENCE);
    assert!(matches!(drained, Ok(Drained::Clean)), "{drained:?}");
    assert_eq!(has_left.recv(), Ok(true));
}
