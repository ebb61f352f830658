//! Ports for the programs that tests start.

use tokio::net::TcpSocket;

/// A free port of 127.0.0.1. While this lives, the system gives it to nobody and refuses connections to it. A program
/// that is told its number can still listen on it, if it sets `SO_REUSEADDR`, as servers do.
pub(crate) struct Port(TcpSocket);

impl Port {
    pub(crate) fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("the option is known");
        socket
            .bind(([127, 0, 0, 1], 0).into())
            .expect("a free port");
        Self(socket)
    }

    pub(crate) fn number(&self) -> u16 {
        self.0.local_addr().expect("it is bound").port()
    }
}
