use super::*;
use crate::engine::record::{Position, Reading, Record};

const NOW: EpochMs = EpochMs(10_000_000);

/// The same moment by the other clock.
const AT: Uptime = Uptime(Duration::from_secs(1_000));

fn bounds() -> Bounds {
    Bounds {
        window: 10,
        window_bytes: 1_000,
        lane: 10,
        jobs: 10,
        parked: 10,
        waiting_bytes: 1_000_000,
        lifetime: Duration::from_secs(300),
    }
}

fn state() -> (State, Partition) {
    let mut state = State::new(bounds());
    let partition = Partition {
        topic: "requests".into(),
        number: 0,
    };
    state.assign(partition.clone(), Origin::Requests, Tracker::foreign(0, 0));
    (state, partition)
}

fn request(partition: &Partition, offset: i64, time: EpochMs, origin: Origin) -> Request {
    let record = Record {
        position: Position {
            topic: Arc::clone(&partition.topic),
            partition: partition.number,
            offset,
        },
        timestamp: Some(time),
        key: None,
        value: Some(b"{}".to_vec()),
        headers: Vec::new(),
    };
    let reading = Reading {
        lifetime: Duration::from_secs(300),
        accepted: "accepted".into(),
    };
    Request::read(record, origin, NOW, &reading)
}

fn admit(state: &mut State, partition: &Partition, time: EpochMs) -> Ticket {
    let epoch = state.deliver(partition, 0, Some(time), NOW).expect("ours");
    let request = request(partition, 0, time, Origin::Requests);
    let Admission::Start(ticket) = state.admit(request, epoch, NOW, AT) else {
        unreachable!("nobody is before it");
    };
    ticket
}

#[test]
fn a_request_is_overdue_from_its_deadline_or_from_when_we_got_it() {
    let seconds = |seconds| AT.plus(Duration::from_secs(seconds));
    let hour_ago = EpochMs(NOW.0 - 3_600_000);
    for (time, ends_after) in [(NOW, 300), (hour_ago, 0)] {
        let (mut state, partition) = state();
        let ticket = admit(&mut state, &partition, time);
        assert_eq!(state.overdue(seconds(ends_after)), None);
        let overdue = state.overdue(seconds(ends_after + 61));
        assert_eq!(overdue, Some(Duration::from_secs(60)));
        state.committed(Vec::new(), std::iter::once(&ticket));
        assert_eq!(state.overdue(seconds(10_000)), None);
    }
}

#[test]
fn a_retry_topic_is_held_while_too_many_wait_and_read_again_when_half_are_gone() {
    let delay = Duration::from_secs(5);
    let mut state = State::new(Bounds {
        parked: 4,
        ..bounds()
    });
    let partition = Partition {
        topic: "retry.5s".into(),
        number: 0,
    };
    let origin = Origin::Retry(delay);
    let epoch = state.assign(partition.clone(), origin, Tracker::foreign(0, 0));
    for offset in 0..4_i64 {
        assert_eq!(state.holds(), [], "{offset} wait");
        let later = Duration::from_millis(offset.unsigned_abs());
        let time = NOW.plus(later);
        assert_eq!(
            state.deliver(&partition, offset, Some(time), time),
            Some(epoch)
        );
        let request = request(&partition, offset, time, origin);
        let admission = state.admit(request, epoch, time, AT.plus(later));
        assert!(matches!(admission, Admission::Waits), "it is not due");
    }
    assert_eq!(state.holds(), [(partition.clone(), true)]);
    assert_eq!(
        state.next_due(),
        Some(AT.plus(delay)),
        "nothing to do before"
    );
    // One by one, each exactly when it is due.
    for (offset, change) in [(0, None), (1, Some(false))] {
        let due = AT.plus(Duration::from_millis(offset)).plus(delay);
        let before = Uptime(due.0 - Duration::from_millis(1));
        assert_eq!(state.take_due(before).len(), 0);
        assert_eq!(state.take_due(due).len(), 1);
        let change = change.map(|hold| (partition.clone(), hold));
        assert_eq!(state.holds(), Vec::from_iter(change), "after {offset}");
    }
}

/// A retry of this size, delivered at `time`.
fn retry(state: &mut State, partition: &Partition, offset: i64, time: EpochMs, size: usize) {
    let epoch = state.deliver(partition, offset, Some(time), time);
    let mut record = request(partition, offset, time, Origin::Requests).record;
    record.value = Some(vec![b' '; size]);
    let reading = Reading {
        lifetime: Duration::from_secs(300),
        accepted: "accepted".into(),
    };
    let request = Request::read(record, Origin::Retry(RETRY_DELAY), time, &reading);
    state.admit(request, epoch.expect("ours"), time, AT);
}

const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Two partitions of a retry topic, and 40,000 bytes of waiting retries.
fn with_retries() -> (State, [Partition; 2]) {
    let mut state = State::new(Bounds {
        window_bytes: 1_000_000,
        waiting_bytes: 40_000,
        ..bounds()
    });
    let partitions = [0, 1].map(|number| Partition {
        topic: "retry.5s".into(),
        number,
    });
    for partition in &partitions {
        let origin = Origin::Retry(RETRY_DELAY);
        state.assign(partition.clone(), origin, Tracker::foreign(0, 0));
    }
    (state, partitions)
}

fn waiting_bytes(state: &State) -> usize {
    state.gauges(&HashMap::new(), NOW).waiting_bytes
}

#[test]
fn a_retry_topic_is_held_at_its_share_of_bytes_and_the_others_go_on() {
    let (mut state, [first, second]) = with_retries();
    // Three quarters of 20,000; a quarter is for what is polled in one go.
    assert_eq!(state.room_bytes(), 5_000);
    for offset in 0..5 {
        assert_eq!(state.holds(), [], "{offset} wait");
        retry(&mut state, &first, offset, NOW, 2_000);
    }
    assert_eq!(waiting_bytes(&state), 5 * (2_000 + TICKET_BYTES));
    assert_eq!(state.holds(), [(first.clone(), true)]);
    assert_eq!(state.readable(), [second]);
    // Due, they wait no more, and it is read again from the half on.
    assert_eq!(state.take_due(AT.plus(RETRY_DELAY)).len(), 5);
    assert_eq!(waiting_bytes(&state), 0);
    assert_eq!(state.holds(), [(first, false)]);
}

#[test]
fn a_retry_larger_than_its_share_passes_alone() {
    let (mut state, [first, _]) = with_retries();
    assert_eq!(state.holds(), []);
    retry(&mut state, &first, 0, NOW, 100_000);
    assert_eq!(state.holds(), [(first.clone(), true)]);
    assert_eq!(state.take_due(AT.plus(RETRY_DELAY)).len(), 1);
    assert_eq!(state.holds(), [(first, false)]);
}

#[test]
fn bytes_of_retries_that_are_due_count_until_they_have_a_place() {
    let (mut state, [first, _]) = with_retries();
    for offset in 0..12 {
        retry(&mut state, &first, offset, NOW, 100);
    }
    let all = waiting_bytes(&state);
    assert_eq!(state.take_due(AT.plus(RETRY_DELAY)).len(), 10, "the window");
    assert_eq!(waiting_bytes(&state), all / 12 * 2);
    state.begin_revoke(std::slice::from_ref(&first));
    assert_eq!(waiting_bytes(&state), 0);
}

#[test]
fn a_record_of_empty_headers_counts_what_they_take() {
    let (_, partition) = state();
    let mut record = request(&partition, 0, NOW, Origin::Requests).record;
    let header = crate::engine::record::Header {
        name: String::new(),
        value: None,
    };
    record.headers = vec![header; 100_000];
    assert!(record.size() >= 100_000 * size_of::<crate::engine::record::Header>());
}

#[test]
fn of_the_jobs_in_hand_few_are_begun_in_order() {
    let mut state = State::new(Bounds {
        window_bytes: 100_000,
        jobs: 32,
        ..bounds()
    });
    let jobs = Partition {
        topic: "jobs".into(),
        number: 0,
    };
    state.assign(jobs.clone(), Origin::Jobs, Tracker::foreign(0, 0));
    let begun = |admissions: Vec<Admission>| -> Vec<Ticket> {
        let tickets = admissions.into_iter().filter_map(|one| match one {
            Admission::Start(ticket) => Some(ticket),
            Admission::LaneFull(_) | Admission::Waits => None,
        });
        tickets.collect()
    };
    let offsets = |tickets: &[Ticket]| -> Vec<i64> {
        let positions = tickets.iter().map(|ticket| &ticket.request.record.position);
        positions.map(|position| position.offset).collect()
    };
    let mut admissions = Vec::new();
    for offset in 0..34 {
        assert_eq!(state.holds(), [], "{offset} are in hand");
        let epoch = state.deliver(&jobs, offset, Some(NOW), NOW).expect("ours");
        let request = request(&jobs, offset, NOW, Origin::Jobs);
        admissions.push(state.admit(request, epoch, NOW, AT));
    }
    let mut open = begun(admissions);
    assert_eq!(offsets(&open), [0, 1]);
    assert_eq!(state.room(), 8, "live requests have the other places");
    assert_eq!(state.holds(), [(jobs.clone(), true)], "32 wait");
    assert_eq!(offsets(&begun(state.take_due(AT))), [0; 0]);
    for turn in 1..17 {
        state.committed(Vec::new(), open.iter());
        open = begun(state.take_due(AT));
        assert_eq!(offsets(&open), [2 * turn, 2 * turn + 1]);
        let goes_on = (turn == 8).then(|| (jobs.clone(), false));
        assert_eq!(state.holds(), Vec::from_iter(goes_on), "turn {turn}");
    }
    state.committed(Vec::new(), open.iter());
    assert_eq!((state.window.bytes, state.room()), (0, 10));
}

#[test]
fn lag_is_by_topic_and_as_old_as_the_oldest() {
    let (mut state, partition) = state();
    let ticket = admit(&mut state, &partition, EpochMs(NOW.0 - 7_000));
    let ends = HashMap::from([(partition, 5)]);
    let lag = |state: &State| state.gauges(&ends, NOW).lag["requests"];
    let age = Duration::from_secs(7);
    assert_eq!(lag(&state), Lag { records: 5, age });
    state.committed(Vec::new(), std::iter::once(&ticket));
    assert_eq!(lag(&state), Lag { records: 4, age });
}

#[test]
fn lag_of_a_partition_that_gave_nothing_yet_counts_from_when_it_began() {
    let (mut state, partition) = state();
    let lag = |state: &State, end: i64, now: EpochMs| {
        let ends = HashMap::from([(partition.clone(), end)]);
        state.gauges(&ends, now).lag["requests"].age
    };
    let read = |state: &mut State, end: i64, second: i64| {
        let ends = HashMap::from([(partition.clone(), end)]);
        state.note_ends(&ends, EpochMs(NOW.0 + second * 1_000));
    };
    read(&mut state, 0, 0);
    assert_eq!(lag(&state, 0, NOW), Duration::ZERO, "nothing is there");
    read(&mut state, 3, 10);
    read(&mut state, 5, 13);
    let now = EpochMs(NOW.0 + 70_000);
    assert_eq!(lag(&state, 5, now), Duration::from_secs(60));
    let time = EpochMs(NOW.0 + 65_000);
    assert!(state.deliver(&partition, 4, Some(time), now).is_some());
    assert_eq!(
        lag(&state, 5, now),
        Duration::from_secs(5),
        "by the record's time"
    );
}

#[test]
fn no_step_of_the_wall_clock_moves_what_waits() {
    let delay = Duration::from_secs(5);
    let (mut state, _) = state();
    let partition = Partition {
        topic: "retry.5s".into(),
        number: 0,
    };
    let origin = Origin::Retry(delay);
    let epoch = state.assign(partition.clone(), origin, Tracker::foreign(0, 0));
    // Written two seconds ago by a clock that is ahead, as ours is now and will not be later.
    let ahead = NOW.plus(Duration::from_secs(120));
    let written = ahead.minus(Duration::from_secs(2));
    assert_eq!(
        state.deliver(&partition, 0, Some(written), ahead),
        Some(epoch)
    );
    let request = request(&partition, 0, written, origin);
    assert!(matches!(
        state.admit(request, epoch, ahead, AT),
        Admission::Waits
    ));
    assert_eq!(state.next_due(), Some(AT.plus(Duration::from_secs(3))));
    assert_eq!(state.take_due(AT.plus(Duration::from_secs(3))).len(), 1);
}
