//! What goes wrong with packets, between every instance and every broker: requests that arrive late, after
//! their connection is gone and the client has repeated them; requests and answers that are lost, with their
//! connection or without a word; a broker whose connections all break, or all stand still.

use std::time::{Duration, Instant};

use crate::chance::{Chance, Deck};
use crate::cluster::BROKERS;
use crate::faults::Stage;
use crate::journal::Whom;
use crate::kafka_proxy::{Action, Api, Proxy, Rule};

/// The kinds of requests that an instance makes, and how often each is in the deck.
const REQUESTS: [(Api, &str, usize); 14] = [
    (Api(0), "Produce", 2),
    (Api(1), "Fetch", 1),
    (Api(2), "ListOffsets", 1),
    (Api(3), "Metadata", 1),
    (Api(9), "OffsetFetch", 1),
    (Api(10), "FindCoordinator", 1),
    (Api(11), "JoinGroup", 1),
    (Api(12), "Heartbeat", 1),
    (Api(14), "SyncGroup", 1),
    (Api(22), "InitProducerId", 2),
    (Api(24), "AddPartitionsToTxn", 2),
    (Api(25), "AddOffsetsToTxn", 2),
    (Api(26), "EndTxn", 4),
    (Api(28), "TxnOffsetCommit", 2),
];

/// To all connections of a broker at once, and how often each is in the deck.
const CUTS: usize = 8;
const STALLS: usize = 4;

/// Mostly moments; the longest is longer than a transaction may stay open.
const HELD: [(u64, u64); 4] = [(50, 500), (500, 3_000), (500, 3_000), (3_000, 40_000)];
const DELAYED: (u64, u64) = (100, 4_000);
const STALLED: (u64, u64) = (1_000, 12_000);

/// Between two looks at what has happened, and at what is due.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnPacket {
    Hold,
    Delay,
    CutBefore,
    CutAfter,
    DropAnswer,
}

#[derive(Clone, Copy, Debug)]
enum Card {
    Next(OnPacket, Api),
    CutAll,
    StallAll,
}

fn deck() -> Deck<Card> {
    use OnPacket::{CutAfter, CutBefore, Delay, DropAnswer, Hold};
    let mut cards = Vec::new();
    for (api, _, weight) in REQUESTS {
        for what in [Hold, Delay, CutBefore, CutAfter] {
            cards.extend(std::iter::repeat_n(Card::Next(what, api), weight));
        }
        // It takes the client a minute to give up.
        cards.push(Card::Next(DropAnswer, api));
    }
    cards.extend([Card::CutAll; CUTS]);
    cards.extend([Card::StallAll; STALLS]);
    Deck::new(cards)
}

/// What is under way.
struct Packets<'a> {
    stage: &'a Stage<'a>,
    proxies: &'a [Proxy; BROKERS],
    chance: Chance,
    /// When a held request goes on to its broker.
    releases: Vec<(Instant, usize)>,
    /// When the connections of a broker go on.
    stalled: [Option<Instant>; BROKERS],
}

/// `gap`: from one fault to the next, in milliseconds. A fault on a request counts once such a request has
/// come by.
pub(crate) fn track(stage: &Stage<'_>, proxies: &[Proxy; BROKERS], gap: (u64, u64)) {
    // The version before commits half of a transaction when a packet comes late.
    if stage.mixed {
        return;
    }
    let mut packets = Packets {
        stage,
        proxies,
        chance: Chance::new(stage.seed, 7),
        releases: Vec::new(),
        stalled: [None; BROKERS],
    };
    let (mut chance, mut deck) = (Chance::new(stage.seed, 8), deck());
    let mut next = Instant::now() + Duration::from_secs(2);
    while stage.stop.wait(LOOK) {
        let now = Instant::now();
        packets.look(now);
        if now < next {
            continue;
        }
        next = now + chance.time(gap.0, gap.1);
        let broker = chance.index(BROKERS);
        let card = deck.draw(&mut chance);
        packets.play(card, broker, chance.time(DELAYED.0, DELAYED.1), now);
    }
    packets.heal();
}

impl Packets<'_> {
    fn play(&mut self, card: Card, broker: usize, delay: Duration, now: Instant) {
        let proxy = &self.proxies[broker];
        let detail = format!("to broker {}", broker + 1);
        match card {
            Card::Next(what, api) => {
                let action = match what {
                    OnPacket::Hold => Action::Hold,
                    OnPacket::Delay => Action::Delay(delay),
                    OnPacket::CutBefore => Action::CutBefore,
                    OnPacket::CutAfter => Action::CutAfter,
                    OnPacket::DropAnswer => Action::DropAnswer,
                };
                proxy.add(Rule::next(api, action));
            }
            Card::CutAll => {
                self.stage.journal.fault(Whom::Packet, "CutAll", &detail);
                proxy.cut();
            }
            Card::StallAll if self.stalled[broker].is_some() => {}
            Card::StallAll => {
                self.stage.journal.fault(Whom::Packet, "StallAll", &detail);
                self.stalled[broker] = Some(now + self.chance.time(STALLED.0, STALLED.1));
                proxy.stall();
            }
        }
    }

    /// Counts what has happened, and ends what is due.
    fn look(&mut self, now: Instant) {
        for (broker, proxy) in self.proxies.iter().enumerate() {
            for (api, action) in proxy.take_done() {
                let kind = format!("{} {}", word(action), name(api));
                let detail = format!("to broker {}", broker + 1);
                self.stage.journal.fault(Whom::Packet, &kind, &detail);
                if action == Action::Hold {
                    let (low, high) = self.chance.pick(&HELD);
                    self.releases
                        .push((now + self.chance.time(low, high), broker));
                }
            }
            if self.stalled[broker].is_some_and(|until| until <= now) {
                self.stalled[broker] = None;
                proxy.open();
                let text = format!("the connections to broker {} go on", broker + 1);
                self.stage.journal.note(&text);
            }
        }
        self.releases.retain(|(at, broker)| {
            if *at > now {
                return true;
            }
            let late = self.proxies[*broker].let_go();
            let what = if late {
                "arrives late"
            } else {
                "is lost: its connection is gone"
            };
            let text = format!("a request to broker {} {what}", broker + 1);
            self.stage.journal.note(&text);
            false
        });
    }

    /// Nothing more happens to any request, and what is held arrives.
    fn heal(&mut self) {
        for proxy in self.proxies {
            proxy.open();
            for _ in 0..=self.releases.len() {
                proxy.let_go();
            }
        }
    }
}

fn name(api: Api) -> &'static str {
    let known = REQUESTS.iter().find(|(known, ..)| *known == api);
    known.map_or("?", |(_, name, _)| name)
}

fn word(action: Action) -> String {
    // Without how long.
    let text = format!("{action:?}");
    text.split('(').next().unwrap_or_default().to_owned()
}
