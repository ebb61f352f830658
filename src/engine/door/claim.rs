//! Who decides what becomes of a result that waits for its transaction: the committer, which begins
//! it, or the request, which has waited long enough.
//!
//! ```text
//!            begin                 committed
//! waiting ───────────▶ begun ─────────────────▶ answered
//!    │    ◀───────────   │
//!    │       repeat      │ give up
//!    ▼ give up           ▼
//! withdrawn          unconfirmed: never begun again
//! ```

use parking_lot::Mutex;

/// Shared by a request and the committer.
#[derive(Debug, Default)]
pub(super) struct Claim(Mutex<State>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Waiting,
    Begun,
    Withdrawn,
    Unconfirmed,
}

/// How far a result had come when its request gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// It is in no transaction, and will be in none.
    NotBegun,
    /// It is, or was, in a transaction of which nothing is known.
    Begun,
}

impl Claim {
    /// Takes the result into a transaction; false: its request has given up.
    pub(super) fn begin(&self) -> bool {
        self.step(State::Waiting, State::Begun)
    }

    /// Puts a result back whose transaction has certainly written nothing; false: its request has
    /// given up.
    pub(super) fn repeat(&self) -> bool {
        self.step(State::Begun, State::Waiting)
    }

    /// Whether its request waits, and it is in no transaction.
    pub(super) fn is_waiting(&self) -> bool {
        *self.0.lock() == State::Waiting
    }

    /// Ends the waiting. Whatever was not begun is withdrawn.
    pub(super) fn give_up(&self) -> GivenUp {
        let mut state = self.0.lock();
        match *state {
            State::Waiting | State::Withdrawn => {
                *state = State::Withdrawn;
                GivenUp::NotBegun
            }
            State::Begun | State::Unconfirmed => {
                *state = State::Unconfirmed;
                GivenUp::Begun
            }
        }
    }

    fn step(&self, from: State, to: State) -> bool {
        let mut state = self.0.lock();
        let fits = *state == from;
        if fits {
            *state = to;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_begun_is_withdrawn_and_never_begins() {
        let claim = Claim::default();
        assert_eq!(claim.give_up(), GivenUp::NotBegun);
        assert!(!claim.begin());
        assert_eq!(claim.give_up(), GivenUp::NotBegun);
    }

    #[test]
    fn what_was_begun_is_unconfirmed_and_never_repeated() {
        let claim = Claim::default();
        assert!(claim.begin());
        assert_eq!(claim.give_up(), GivenUp::Begun);
        assert!(!claim.repeat() && !claim.begin());
        assert_eq!(claim.give_up(), GivenUp::Begun);
    }

    #[test]
    fn what_was_aborted_waits_again_and_can_be_withdrawn() {
        let claim = Claim::default();
        assert!(claim.begin() && !claim.begin());
        assert!(claim.repeat() && !claim.repeat());
        assert_eq!(claim.give_up(), GivenUp::NotBegun);
    }
}
