//! When an instance's clock was wrong, and by how much the times that it wrote down then may differ.

/// In order.
#[derive(Debug, Default)]
pub(super) struct Shifts(Vec<Shift>);

#[derive(Clone, Copy, Debug)]
struct Shift {
    from: i64,
    /// None: it is wrong still.
    to: Option<i64>,
    by: i64,
}

impl Shifts {
    /// From `now` on it differs by so many milliseconds; 0: it is right again.
    pub(super) fn set(&mut self, now: i64, by: i64) {
        if let Some(last) = self.0.last_mut().filter(|last| last.to.is_none()) {
            last.to = Some(now);
        }
        if by != 0 {
            self.0.push(Shift {
                from: now,
                to: None,
                by: by.abs(),
            });
        }
    }

    /// By how much a time can be wrong that an instance wrote down between `from` and `to`.
    pub(super) fn slack(&self, from: i64, to: i64) -> i64 {
        let meets = |shift: &&Shift| {
            // `to` may have been written by the wrong clock itself.
            let ended = shift.to.is_some_and(|end| end + shift.by < from);
            !ended && shift.from <= to + shift.by
        };
        let by = self.0.iter().filter(meets).map(|shift| shift.by);
        by.max().unwrap_or(0)
    }
}
