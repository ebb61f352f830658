//! One connection of a client: a thread for its requests and one for their answers.

use std::collections::HashMap;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::rules::{Action, Api, answer_id, api, decide, request_id};
use super::{Held, LateAnswer, Shared};

struct Connection {
    number: u64,
    shared: Arc<Shared>,
    client: TcpStream,
    broker: TcpStream,
    /// Requests that the broker has and did not answer, and what is to become of the answer.
    waiting: Mutex<HashMap<i32, (Api, Fate)>>,
    /// A request is held: the client is gone, and answers are late.
    is_held: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    IsDropped,
    CutsTheConnection,
}

/// Whether the connection goes on after a request.
#[derive(PartialEq, Eq)]
enum Next {
    GoesOn,
    Ends,
    /// The broker's end is still needed.
    IsHeld,
}

/// Connects `client` with the broker.
pub(super) fn join(shared: &Arc<Shared>, client: TcpStream) {
    let Ok(broker) = TcpStream::connect(("127.0.0.1", shared.broker)) else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = broker.set_nodelay(true);
    let Some((client_too, broker_too)) = client.try_clone().ok().zip(broker.try_clone().ok())
    else {
        return;
    };
    let mut state = shared.lock();
    state.connections += 1;
    let number = state.connections;
    state.open.insert(number, [client_too, broker_too]);
    drop(state);
    let requests = Arc::new(Connection {
        number,
        shared: Arc::clone(shared),
        client,
        broker,
        waiting: Mutex::default(),
        is_held: AtomicBool::new(false),
    });
    let answers = Arc::clone(&requests);
    std::thread::spawn(move || {
        // Either end closes, or the connection was cut: both sides hear of it.
        if !matches!(requests.pass_requests(), Ok(Next::IsHeld)) {
            let _ = requests.broker.shutdown(Shutdown::Both);
        }
    });
    std::thread::spawn(move || {
        let _ = answers.pass_answers();
        let _ = answers.client.shutdown(Shutdown::Both);
        let mut state = answers.shared.lock();
        state.open.remove(&answers.number);
        state.ended += 1;
        drop(state);
        answers.shared.changed.notify_all();
    });
}

/// Writes a whole frame.
pub(super) fn write(mut to: &TcpStream, frame: &[u8]) -> std::io::Result<()> {
    to.write_all(frame)
}

impl Connection {
    fn pass_requests(&self) -> std::io::Result<Next> {
        loop {
            let frame = read_frame(&self.client)?;
            let next = self.pass_request(frame)?;
            if next != Next::GoesOn {
                return Ok(next);
            }
        }
    }

    fn pass_request(&self, frame: Vec<u8>) -> std::io::Result<Next> {
        let api = api(&frame);
        let mut state = self.shared.lock();
        *state.requests.entry(api).or_default() += 1;
        if state.is_stalled {
            drop(state);
            self.stand_still();
            return Ok(Next::Ends);
        }
        let has_held = !state.held.is_empty();
        let action = decide(&mut state.rules, &frame, has_held);
        state.done.extend(action.map(|action| (api, action)));
        state.is_stalled = matches!(action, Some(Action::StallAfter | Action::StallBefore));
        drop(state);
        self.shared.changed.notify_all();
        let Some(action) = action else {
            return self.deliver(&frame, Fate::Passes);
        };
        match action {
            Action::Hold => {
                self.hold(frame)?;
                Ok(Next::IsHeld)
            }
            Action::Block => {
                self.block(api);
                self.deliver(&frame, Fate::Passes)
            }
            Action::Delay(by) => {
                // No longer than the rule holds.
                let state = self.shared.lock();
                let wait = self
                    .shared
                    .changed
                    .wait_timeout_while(state, by, |state| !state.rules.is_empty());
                drop(wait);
                self.deliver(&frame, Fate::Passes)
            }
            Action::CutBefore => Ok(Next::Ends),
            Action::CutAfter => self.deliver(&frame, Fate::CutsTheConnection),
            Action::Twice => {
                self.deliver(&frame, Fate::Passes)?;
                write(&self.broker, &frame)?;
                Ok(Next::GoesOn)
            }
            Action::DropAnswer => self.deliver(&frame, Fate::IsDropped),
            Action::StallAfter => {
                self.deliver(&frame, Fate::Passes)?;
                self.stand_still();
                Ok(Next::Ends)
            }
            Action::StallBefore => {
                self.stand_still();
                Ok(Next::Ends)
            }
        }
    }

    fn deliver(&self, frame: &[u8], fate: Fate) -> std::io::Result<Next> {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(request_id(frame), (api(frame), fate));
        write(&self.broker, frame)?;
        Ok(Next::GoesOn)
    }

    fn hold(&self, frame: Vec<u8>) -> std::io::Result<()> {
        let broker = self.broker.try_clone()?;
        self.is_held.store(true, Ordering::SeqCst);
        let mut state = self.shared.lock();
        state.open.remove(&self.number);
        state.held.push(Held {
            connection: self.number,
            correlation: request_id(&frame),
            frame,
            broker,
        });
        drop(state);
        self.client.shutdown(Shutdown::Both)?;
        self.shared.changed.notify_all();
        Ok(())
    }

    fn block(&self, api: Api) {
        let mut state = self.shared.lock();
        state.blocked.push(api);
        self.shared.changed.notify_all();
        let blocked = self
            .shared
            .changed
            .wait_while(state, |state| state.blocked.contains(&api));
        drop(blocked);
    }

    fn pass_answers(&self) -> std::io::Result<()> {
        let mut is_silent = false;
        loop {
            let frame = read_frame(&self.broker)?;
            let correlation = answer_id(&frame);
            let waiting = self
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&correlation);
            let mut state = self.shared.lock();
            if state.is_stalled {
                drop(state);
                self.stand_still();
                return Ok(());
            }
            if let Some((api, _)) = waiting {
                *state.answers.entry(api).or_default() += 1;
            }
            let is_held = self.is_held.load(Ordering::SeqCst);
            if is_held {
                let connection = self.number;
                state.late.push(LateAnswer {
                    connection,
                    correlation,
                    frame,
                });
                drop(state);
                self.shared.changed.notify_all();
                continue;
            }
            drop(state);
            self.shared.changed.notify_all();
            match waiting {
                Some((_, Fate::CutsTheConnection)) => return Ok(()),
                Some((_, Fate::IsDropped)) => is_silent = true,
                Some((_, Fate::Passes)) if !is_silent => write(&self.client, &frame)?,
                // None: a second answer to what arrived twice.
                Some((_, Fate::Passes)) | None => {}
            }
        }
    }

    /// What was held back is lost, with its connection.
    fn stand_still(&self) {
        let state = self.shared.lock();
        drop(
            self.shared
                .changed
                .wait_while(state, |state| state.is_stalled),
        );
    }
}

/// A request or an answer, with its size.
fn read_frame(mut stream: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let size = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
    frame.resize(4 + size as usize, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}
