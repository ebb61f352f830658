//! An HTTP/1.1 client of a few lines, so that what is tested is read by nobody's code but ours here.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::process::Process;
use crate::request::Request;

/// Longer than any answer may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The door's path.
pub(crate) const PATH: &str = "/user-otp/v1/_send";

/// An answer, as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Everything of it.
    pub(crate) fn text(&self) -> String {
        format!("{} {:?} {}", self.status, self.headers, self.body)
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(process: &Process) -> Self {
        Self::to(process.http_port()).expect("the port listens")
    }

    pub(crate) fn to(port: u16) -> io::Result<Self> {
        Self::at("127.0.0.1", port)
    }

    /// At one of this machine's addresses.
    pub(crate) fn at(address: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((address, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::new(),
        })
    }

    /// Writes these bytes as they are.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub(crate) fn give_up_writing_after(&self, time: Duration) {
        let set = self.stream.set_write_timeout(Some(time));
        set.expect("a time-out");
    }

    /// Asks for an OTP.
    #[track_caller]
    pub(crate) fn send(&mut self, request: &Request) -> Answer {
        self.post(&request.body(), &[])
    }

    /// Posts a body as JSON, with more headers.
    #[track_caller]
    pub(crate) fn post(&mut self, body: &str, headers: &[(&str, &str)]) -> Answer {
        self.write(post(body, headers)).expect("it is taken");
        self.answer().expect("it is answered")
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let end = self.until(|read| find(read, b"\r\n\r\n"))?;
        let head = String::from_utf8_lossy(&self.read[..end]).into_owned();
        self.read.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
            .ok_or_else(|| io::Error::other(format!("no status line: {head}")))?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        let length = answer
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        self.until(|read| (read.len() >= length).then_some(()))?;
        answer.body = String::from_utf8_lossy(&self.read[..length]).into_owned();
        self.read.drain(..length);
        Ok(answer)
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish_writing(&self) {
        let finished = self.stream.shutdown(std::net::Shutdown::Write);
        finished.expect("it is open");
    }

    /// Whether nothing more comes, and the other side has closed.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1024]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Reads until `ready` says so.
    fn until<T>(&mut self, ready: impl Fn(&[u8]) -> Option<T>) -> io::Result<T> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(found) = ready(&self.read) {
                return Ok(found);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => self.read.extend_from_slice(&buffer[..read]),
            }
        }
    }
}

/// A request's bytes: a body posted as JSON, with more headers.
pub(crate) fn post(body: &str, headers: &[(&str, &str)]) -> String {
    let more: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
