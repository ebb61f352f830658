//! What share of each topic's input cannot be read, over the last while: somebody deployed a producer
//! that writes something else. Each such record is a dead letter; this is what tells people.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::EpochMs;

/// The window moves in steps of a part of it this large.
const SLICES: usize = 12;

/// Fewer unreadable records within the window are slips, whatever their share.
const LEAST: u64 = 20;

/// How often it is said again while it lasts.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A topic's input within the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Records that were read.
    pub records: u64,
    /// Those of them that hold no request.
    pub poison: u64,
}

impl Share {
    /// How much of it is poison, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of a minute are small")]
    pub fn ratio(&self) -> f64 {
        self.poison as f64 / self.records.max(1) as f64
    }

    /// The same in percent, rounded down.
    #[must_use]
    pub fn percent(&self) -> u64 {
        self.poison.saturating_mul(100) / self.records.max(1)
    }

    fn reaches(&self, percent: u64) -> bool {
        self.poison.saturating_mul(100) >= self.records.saturating_mul(percent)
    }
}

/// What is to be said about a topic.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// A flood began, or goes on.
    Flood(Share),
    /// It is over.
    Over(Arc<str>),
}

/// The input of all topics.
#[derive(Debug)]
pub struct Inputs {
    percent: u64,
    slice: Duration,
    topics: BTreeMap<Arc<str>, Input>,
}

#[derive(Debug, Default)]
struct Input {
    slices: [Slice; SLICES],
    /// While there is a flood: when it was last said.
    said: Option<EpochMs>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slice {
    number: i64,
    records: u64,
    poison: u64,
}

impl Inputs {
    /// A flood is `percent` of what comes within `window`, and more than a few.
    #[must_use]
    pub fn new(percent: u32, window: Duration) -> Self {
        let parts = u32::try_from(SLICES).unwrap_or(1);
        Self {
            percent: percent.into(),
            slice: (window / parts).max(Duration::from_millis(1)),
            topics: BTreeMap::new(),
        }
    }

    /// A record of `topic` was read at `now`; `poison`: it holds no request.
    pub fn note(&mut self, topic: &Arc<str>, poison: bool, now: EpochMs) {
        let number = self.slice_at(now);
        if !self.topics.contains_key(topic) {
            self.topics.insert(Arc::clone(topic), Input::default());
        }
        let Some(input) = self.topics.get_mut(topic) else {
            return;
        };
        let place = usize::try_from(number.rem_euclid(SLICES as i64)).unwrap_or(0);
        let slice = &mut input.slices[place];
        if slice.number != number {
            *slice = Slice {
                number,
                ..Slice::default()
            };
        }
        slice.records += 1;
        slice.poison += u64::from(poison);
    }

    /// The topics' input as it is at `now`.
    #[must_use]
    pub fn shares(&self, now: EpochMs) -> Vec<Share> {
        let topics = self.topics.iter();
        topics
            .map(|(topic, input)| self.share(topic, input, now))
            .collect()
    }

    /// Those of them that are flooded, as last judged.
    #[must_use]
    pub fn floods(&self, now: EpochMs) -> Vec<Share> {
        let flooded = self.topics.iter().filter(|(_, input)| input.said.is_some());
        flooded
            .map(|(topic, input)| self.share(topic, input, now))
            .collect()
    }

    /// Judges all topics: what is to be said about them now, once at each change, and again after a
    /// minute while it lasts. A flood is over when less than half of what made it one is left.
    pub fn judge(&mut self, now: EpochMs) -> Vec<News> {
        let mut news = Vec::new();
        for share in self.shares(now) {
            let percent = self.percent;
            let Some(input) = self.topics.get_mut(&share.topic) else {
                continue;
            };
            match input.said {
                None if share.poison >= LEAST && share.reaches(percent) => {
                    input.said = Some(now);
                    news.push(News::Flood(share));
                }
                Some(_) if share.poison == 0 || !share.reaches(percent.div_ceil(2)) => {
                    input.said = None;
                    news.push(News::Over(share.topic));
                }
                Some(said) if said.age(now) >= SAY_AGAIN => {
                    input.said = Some(now);
                    news.push(News::Flood(share));
                }
                None if share.records == 0 => drop(self.topics.remove(&share.topic)),
                None | Some(_) => {}
            }
        }
        news
    }

    fn share(&self, topic: &Arc<str>, input: &Input, now: EpochMs) -> Share {
        let last = self.slice_at(now);
        let within = last - (SLICES as i64 - 1)..=last;
        let slices = input.slices.iter();
        let slices = slices.filter(|slice| within.contains(&slice.number));
        let (records, poison) = slices.fold((0, 0), |(records, poison), slice| {
            (records + slice.records, poison + slice.poison)
        });
        Share {
            topic: Arc::clone(topic),
            records,
            poison,
        }
    }

    fn slice_at(&self, now: EpochMs) -> i64 {
        let slice = i64::try_from(self.slice.as_millis()).unwrap_or(i64::MAX);
        now.0.div_euclid(slice.max(1))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(second: u64) -> EpochMs {
        EpochMs(1_732_346_880_000).plus(Duration::from_secs(second))
    }

    fn inputs() -> Inputs {
        Inputs::new(10, MINUTE)
    }

    fn feed(inputs: &mut Inputs, topic: &str, good: u64, poison: u64, second: u64) {
        let topic = topic.into();
        (0..good).for_each(|_| inputs.note(&topic, false, at(second)));
        (0..poison).for_each(|_| inputs.note(&topic, true, at(second)));
    }

    fn flood(topic: &str, records: u64, poison: u64) -> News {
        let topic = topic.into();
        News::Flood(Share {
            topic,
            records,
            poison,
        })
    }

    #[rstest]
    #[case::most_of_it(10, 90, true)]
    #[case::exactly_the_share(180, 20, true)]
    #[case::less_than_the_share(181, 20, false)]
    #[case::a_few_slips(0, 19, false)]
    #[case::all_is_well(1_000, 0, false)]
    #[case::nothing_came(0, 0, false)]
    fn a_flood_is_a_share_and_more_than_a_few(
        #[case] good: u64,
        #[case] poison: u64,
        #[case] is_flood: bool,
    ) {
        let mut inputs = inputs();
        feed(&mut inputs, "requests", good, poison, 0);
        let expected: &[News] = &[flood("requests", good + poison, poison)];
        let expected = if is_flood { expected } else { &[] };
        assert_eq!(inputs.judge(at(1)), expected);
        assert_eq!(inputs.floods(at(1)).len(), expected.len());
    }

    #[test]
    fn it_is_said_of_its_topic_alone() {
        let mut inputs = inputs();
        feed(&mut inputs, "requests", 0, 50, 0);
        feed(&mut inputs, "jobs", 50, 1, 0);
        assert_eq!(inputs.judge(at(1)), [flood("requests", 50, 50)]);
        let percents: Vec<_> = inputs.shares(at(1)).iter().map(Share::percent).collect();
        assert_eq!(percents, [1, 100]);
    }

    #[test]
    fn it_is_said_at_each_change_and_once_a_minute() {
        let mut inputs = inputs();
        let mut said = Vec::new();
        for second in 0..300 {
            let (good, poison) = if second < 150 { (1, 9) } else { (10, 0) };
            feed(&mut inputs, "requests", good, poison, second);
            let news = inputs.judge(at(second)).into_iter();
            said.extend(news.map(|one| (second, one)));
        }
        let seconds: Vec<_> = said.iter().map(|(second, _)| *second).collect();
        let (last, before) = said.split_last().expect("it was said");
        assert_eq!(last.1, News::Over("requests".into()));
        assert!(before.iter().all(|(_, one)| matches!(one, News::Flood(_))));
        // Half of the share is left when a twentieth of the last minute's is poison.
        assert_eq!(seconds[..4], [2, 62, 122, 182], "{said:?}");
        assert_eq!(seconds.len(), 5);
        assert!((195..=210).contains(&last.0), "{}", last.0);
    }

    #[test]
    fn when_nothing_comes_any_more_it_is_over_after_the_window() {
        let mut inputs = inputs();
        feed(&mut inputs, "requests", 0, 100, 0);
        assert_eq!(inputs.judge(at(0)), [flood("requests", 100, 100)]);
        assert_eq!(inputs.judge(at(50)), []);
        assert_eq!(inputs.judge(at(65)), [News::Over("requests".into())]);
        assert_eq!(inputs.judge(at(66)), []);
        assert!(inputs.shares(at(66)).is_empty(), "and forgotten");
    }

    #[test]
    fn a_share_around_the_threshold_does_not_flap() {
        let mut inputs = inputs();
        let mut news = 0;
        for second in 0..59 {
            feed(
                &mut inputs,
                "requests",
                if second % 2 == 0 { 180 } else { 185 },
                20,
                second,
            );
            news += inputs.judge(at(second)).len();
        }
        assert_eq!(news, 1);
    }
}
