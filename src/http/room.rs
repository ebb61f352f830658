//! Room for requests: a place for each, and bytes for its body, both taken before any of the body is read.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config;
use crate::metrics::{HeldBytes, Metrics};

/// Up to here a body is small: a request is a few hundred bytes.
const SMALL: usize = 4 * 1024;

/// The places and bytes that are free.
pub(super) struct Room {
    places: Arc<Semaphore>,
    /// For small bodies alone.
    small: Arc<Semaphore>,
    /// For all of them.
    any: Arc<Semaphore>,
    metrics: Metrics,
}

/// One request's, until it is dropped.
pub(super) struct Seat {
    _place: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
    held: HeldBytes,
}

impl Room {
    pub(super) fn new(settings: &config::Http, metrics: Metrics) -> Self {
        let small = settings.body_bytes / 4;
        Self {
            places: Arc::new(Semaphore::new(settings.requests)),
            small: Arc::new(Semaphore::new(small)),
            any: Arc::new(Semaphore::new(settings.body_bytes - small)),
            metrics,
        }
    }

    /// A place and bytes for a body of at most this size, where there are both.
    pub(super) fn take(&self, body: usize) -> Option<Seat> {
        let take = |from: &Arc<Semaphore>| {
            let bytes = u32::try_from(body).ok()?;
            Arc::clone(from).try_acquire_many_owned(bytes).ok()
        };
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let kept = if body <= SMALL {
            take(&self.small)
        } else {
            None
        };
        Some(Seat {
            _place: place,
            bytes: kept.or_else(|| take(&self.any))?,
            held: self.metrics.http_body(body),
        })
    }
}

impl Seat {
    /// The body has turned out to be this long: the rest of its bytes is free.
    pub(super) fn shrink_to(&mut self, body: usize) {
        let surplus = self.bytes.num_permits().saturating_sub(body);
        drop(self.bytes.split(surplus));
        self.held.shrink_to(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn room(set: impl FnOnce(&mut config::Http)) -> Room {
        let (mut config, _) = Config::load(None, []).expect("the defaults are right");
        config.http.requests = 3;
        config.http.body_bytes = 100_000;
        set(&mut config.http);
        Room::new(&config.http, Metrics::default())
    }

    #[test]
    fn bytes_are_taken_until_there_are_none_and_are_free_again_with_their_request() {
        let room = room(|_| {});
        let first = room.take(40_000).expect("room");
        assert!(room.take(40_000).is_none(), "of the 75,000 for large ones");
        drop(first);
        assert!(room.take(40_000).is_some());
    }

    #[test]
    fn large_bodies_leave_bytes_for_small_ones() {
        let room = room(|_| {});
        let _all = room.take(75_000).expect("room");
        assert!(room.take(SMALL + 1).is_none());
        assert!(room.take(SMALL).is_some());
    }

    #[test]
    fn a_body_that_was_shorter_than_it_might_be_gives_the_rest_back() {
        let room = room(|_| {});
        let mut first = room.take(65_536).expect("room");
        first.shrink_to(5_000);
        assert!(room.take(65_536).is_some());
        assert!(room.take(75_000).is_none());
    }

    #[test]
    fn a_place_is_taken_too_and_given_back_where_there_are_no_bytes() {
        let room = room(|_| {});
        let two = (room.take(10), room.take(75_000));
        assert!(two.0.is_some() && two.1.is_some());
        assert!(room.take(10_000).is_none(), "no bytes");
        let last = room.take(10);
        assert!(last.is_some());
        assert!(room.take(10).is_none(), "no place");
    }
}
