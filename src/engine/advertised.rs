//! Whether the addresses that brokers advertise can be reached from here. A client finds the cluster at
//! `kafka.brokers`, and does everything else at these; librdkafka tells of them only to who polls for it.

use std::fmt;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Once one is reached, the others have this much time.
const OTHERS: Duration = Duration::from_millis(300);

/// A broker, as it wants to be addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// `broker.id`, or `node.id`.
    pub id: i32,
    /// `host:port`.
    pub address: String,
}

/// A broker that cannot be reached where it wants to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// Which.
    pub broker: Advertised,
    /// The system's reason.
    pub why: String,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Advertised { id, address } = &self.broker;
        write!(f, "broker {id} advertises {address}: {}", self.why)
    }
}

/// What became of a look at all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// So many can be reached.
    pub reached: usize,
    /// These cannot. Those that have not answered yet are among them only where none can be reached.
    pub unreached: Vec<Unreached>,
}

impl Reach {
    /// Whether nothing can be done with such a cluster.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.reached == 0 && !self.unreached.is_empty()
    }

    /// Of these, none answers: not even those that can be connected to.
    #[must_use]
    pub(super) fn unanswered(mut self, brokers: Vec<Advertised>) -> Self {
        self.reached = 0;
        for broker in brokers {
            if self.unreached.iter().all(|one| one.broker != broker) {
                let why = "no broker answers there".to_owned();
                self.unreached.push(Unreached { broker, why });
            }
        }
        self.unreached.sort_by_key(|one| one.broker.id);
        self
    }

    /// Those that cannot be reached, in one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        let each: Vec<_> = self.unreached.iter().map(ToString::to_string).collect();
        each.join("; ")
    }
}

/// Connects to each, for at most `patience`. Blocks.
pub(super) fn reach(brokers: Vec<Advertised>, patience: Duration) -> Reach {
    let (tell, told) = mpsc::channel();
    let mut open = Vec::new();
    for broker in brokers {
        let (tell, asked) = (tell.clone(), broker.clone());
        // The resolver has time-outs of its own: it is not waited for.
        let look = move || {
            let result = connect(&asked.address, patience);
            let _ = tell.send((asked, result));
        };
        if std::thread::Builder::new().spawn(look).is_ok() {
            open.push(broker);
        }
    }
    let mut deadline = Instant::now() + patience;
    let mut found = Reach::default();
    while !open.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        match told.recv_timeout(left) {
            Ok((broker, result)) => {
                open.retain(|other| *other != broker);
                match result {
                    Ok(()) => {
                        found.reached += 1;
                        deadline = deadline.min(Instant::now() + OTHERS);
                    }
                    Err(why) => found.unreached.push(Unreached { broker, why }),
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    if found.reached == 0 {
        let why = || format!("no answer within {patience:?}");
        let silent = open.into_iter();
        found
            .unreached
            .extend(silent.map(|broker| Unreached { broker, why: why() }));
    }
    found.unreached.sort_by_key(|one| one.broker.id);
    found
}

fn connect(address: &str, patience: Duration) -> Result<(), String> {
    let resolved = address.to_socket_addrs();
    let resolved = resolved.map_err(|error| format!("its name does not resolve ({error})"))?;
    let mut why = "its name does not resolve".to_owned();
    for one in resolved {
        match TcpStream::connect_timeout(&one, patience) {
            Ok(_) => return Ok(()),
            Err(error) => why = format!("it cannot be connected to ({error})"),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn broker(id: i32, address: &str) -> Advertised {
        Advertised {
            id,
            address: address.to_owned(),
        }
    }

    #[test]
    fn brokers_that_cannot_be_reached_are_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let there = listener.local_addr().expect("an address").to_string();
        let gone = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let nobody = gone.local_addr().expect("an address").to_string();
        drop(gone);
        let all = vec![broker(2, &nobody), broker(1, "broker.invalid:9092")];
        let found = reach(all.clone(), Duration::from_secs(20));
        let ids: Vec<_> = found.unreached.iter().map(|one| one.broker.id).collect();
        assert_eq!((found.is_none(), ids), (true, vec![1, 2]), "{found:?}");
        let said = found.sentence();
        assert!(
            said.contains("broker 1 advertises broker.invalid:9092"),
            "{said}"
        );
        assert!(said.contains("does not resolve") && said.contains("cannot be connected to"));

        let one_more = [all, vec![broker(3, &there)]].concat();
        let found = reach(one_more.clone(), Duration::from_secs(20));
        assert_eq!((found.reached, found.is_none()), (1, false));
        let said = found.unanswered(one_more).sentence();
        assert!(said.contains("broker 1 advertises broker.invalid:9092: its name does"));
        assert!(said.ends_with(&format!(
            "broker 3 advertises {there}: no broker answers there"
        )));
    }
}
