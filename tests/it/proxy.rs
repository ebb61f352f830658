//! Between the service and a broker: what goes through it can be cut at a moment that no fault of
//! a real network would hit, or held up for as long as a clock is to be wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::kafka::DEADLINE;

/// Kafka's request that writes records.
const PRODUCE: i16 = 0;
/// Kafka's request that ends a transaction.
const END_TXN: i16 = 26;

/// Whether the request that the connections are cut at still reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    Arrives,
    IsLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    /// Until the next end of a transaction.
    Armed(Last),
    /// Records arrive this much later than they were written.
    Late(Duration),
    /// Nothing gets through, in either direction.
    Stalled,
}

struct State {
    mode: Mutex<Mode>,
    changed: Condvar,
    /// Where the broker listens.
    broker: u16,
}

/// Listens until the process ends; costs nothing while nobody connects.
pub(crate) struct Proxy(Arc<State>);

impl Proxy {
    /// Takes connections on `port` and passes them on to `broker`.
    pub(crate) fn start(port: u16, broker: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Open),
            changed: Condvar::new(),
            broker,
        });
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.connect(client);
            }
        });
        Self(state)
    }

    /// At the next end of a transaction every connection stands still.
    pub(crate) fn stall_at_the_end_of_a_transaction(&self, last: Last) {
        *self.0.lock() = Mode::Armed(last);
    }

    /// From now on records arrive this much later than they were written, as of somebody whose clock is
    /// behind.
    pub(crate) fn delay_records(&self, by: Duration) {
        *self.0.lock() = Mode::Late(by);
    }

    /// Waits until every connection stands still.
    #[track_caller]
    pub(crate) fn wait_stalled(&self) {
        let (mode, _) = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), DEADLINE, |mode| *mode != Mode::Stalled)
            .unwrap_or_else(PoisonError::into_inner);
        assert_eq!(*mode, Mode::Stalled, "a transaction was to end");
    }

    /// New connections get through again; those that stood still are cut.
    pub(crate) fn open(&self) {
        *self.0.lock() = Mode::Open;
        self.0.changed.notify_all();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, client: TcpStream) {
        let Ok(broker) = TcpStream::connect(("127.0.0.1", self.broker)) else {
            return;
        };
        let Some((from_client, from_broker)) = client.try_clone().ok().zip(broker.try_clone().ok())
        else {
            return;
        };
        let (requests, answers) = (Arc::clone(self), Arc::clone(self));
        std::thread::spawn(move || {
            // Either end closes, or the connection was cut: both sides hear of it.
            let _ = requests.pass_requests(from_client, &broker);
            let _ = broker.shutdown(Shutdown::Both);
        });
        std::thread::spawn(move || {
            let _ = answers.pass_answers(from_broker, &client);
            let _ = client.shutdown(Shutdown::Both);
        });
    }

    fn pass_requests(&self, mut client: TcpStream, mut broker: &TcpStream) -> std::io::Result<()> {
        loop {
            let frame = read_frame(&mut client)?;
            let key = i16::from_be_bytes([frame[4], frame[5]]);
            let mut mode = self.lock();
            if let Mode::Armed(last) = *mode
                && key == END_TXN
            {
                *mode = Mode::Stalled;
                self.changed.notify_all();
                drop(mode);
                if last == Last::Arrives {
                    broker.write_all(&frame)?;
                }
                return self.wait_open();
            }
            if *mode == Mode::Stalled {
                drop(mode);
                return self.wait_open();
            }
            if let Mode::Late(by) = *mode
                && key == PRODUCE
            {
                let late = |mode: &mut Mode| matches!(mode, Mode::Late(_));
                drop(self.changed.wait_timeout_while(mode, by, late));
            } else {
                drop(mode);
            }
            broker.write_all(&frame)?;
        }
    }

    fn pass_answers(&self, mut broker: TcpStream, mut client: &TcpStream) -> std::io::Result<()> {
        loop {
            let frame = read_frame(&mut broker)?;
            if *self.lock() == Mode::Stalled {
                return self.wait_open();
            }
            client.write_all(&frame)?;
        }
    }

    /// Stands still. What was held back is lost, with its connection.
    fn wait_open(&self) -> std::io::Result<()> {
        let stalled = |mode: &mut Mode| *mode == Mode::Stalled;
        drop(self.changed.wait_while(self.lock(), stalled));
        Ok(())
    }
}

/// A request or an answer, with its size.
fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let size = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
    frame.resize(4 + size as usize, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}
