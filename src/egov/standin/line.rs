//! Faults below HTTP: a connection that is reset, cut, or trickles.
//!
//! A handler bends its own connection's [`Wire`] just before it answers; what hyper then
//! writes goes through it. HTTP/1.1 has one answer at a time on a connection, and each bent
//! answer says `connection: close`, so no other answer is touched.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

/// What happens to the rest of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bend {
    /// Reset at the first byte.
    Reset,
    /// One byte at a time, with this pause between two.
    Trickle(Duration),
    /// The header at once, then the body a byte at a time.
    TrickleBody(Duration),
    /// The header, half of the body, and the end.
    CutBody,
    /// The end, at the first byte.
    End,
}

/// A handle to one connection, for the handler.
#[derive(Debug, Clone, Default)]
pub(super) struct Wire(Arc<Mutex<Option<Bend>>>);

impl Wire {
    /// Spoils the answer that is written next.
    pub(super) fn bend(&self, bend: Bend) {
        *self.0.lock() = Some(bend);
    }
}

impl Connected<IncomingStream<'_, Listener>> for Wire {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().wire.clone()
    }
}

/// A TCP listener whose connections can be bent.
#[derive(Debug)]
pub(super) struct Listener(TcpListener);

impl Listener {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self(listener)
    }
}

impl axum::serve::Listener for Listener {
    type Io = Line;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, peer) = axum::serve::Listener::accept(&mut self.0).await;
        // Without it small answers would wait for the client's delayed acknowledgement; where it
        // cannot be set, answers are only slower.
        let _ = stream.set_nodelay(true);
        (Line::new(stream), peer)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    wire: Wire,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Line {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            wire: Wire::default(),
            pause: None,
        }
    }

    fn write_now(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// Writes one byte, then is pending for `pause`.
    fn trickle(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        pause: Duration,
    ) -> Poll<io::Result<usize>> {
        if let Some(sleeping) = &mut self.pause {
            ready!(sleeping.as_mut().poll(cx));
        }
        self.pause = Some(Box::pin(sleep(pause)));
        self.write_now(cx, &bytes[..1.min(bytes.len())])
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let line = self.get_mut();
        let bend = *line.wire.0.lock();
        match bend {
            None => line.write_now(cx, bytes),
            Some(Bend::Reset) => {
                // The close sends a reset instead of what is buffered.
                line.stream.set_zero_linger()?;
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            Some(Bend::Trickle(pause)) => line.trickle(cx, bytes, pause),
            // hyper writes a small answer's header and body in one piece.
            Some(Bend::TrickleBody(pause)) => {
                line.wire.bend(Bend::Trickle(pause));
                line.write_now(cx, &bytes[..body_start(bytes)])
            }
            Some(Bend::CutBody) => {
                let start = body_start(bytes);
                let half = start + (bytes.len() - start) / 2;
                let written = ready!(line.write_now(cx, &bytes[..half]));
                line.wire.bend(Bend::End);
                Poll::Ready(written)
            }
            Some(Bend::End) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

/// Where the body begins; the length where there is no end of the header in sight.
fn body_start(bytes: &[u8]) -> usize {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or(bytes.len(), |at| at + 4)
}
