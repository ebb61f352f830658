//! A way to a server that can be shut: connections are cut and new ones refused, while the server
//! behind it lives on, or is replaced by another.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Gate {
    address: SocketAddr,
    upstream: Arc<Mutex<SocketAddr>>,
    closed: Mutex<CancellationToken>,
    runtime: Handle,
}

impl Gate {
    pub(crate) fn to(upstream: SocketAddr, runtime: &Handle) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a free port");
        let gate = Self {
            address: listener.local_addr().expect("an address"),
            upstream: Arc::new(Mutex::new(upstream)),
            closed: Mutex::default(),
            runtime: runtime.clone(),
        };
        gate.serve(listener);
        gate
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    pub(crate) fn close(&self) {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.cancel();
    }

    /// Opens it again, at the same port.
    pub(crate) fn open(&self) {
        let bound = self.runtime.block_on(async {
            for _ in 0..100 {
                if let Ok(listener) = TcpListener::bind(self.address).await {
                    return Some(listener);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            None
        });
        let listener = bound.expect("the port is still ours");
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = CancellationToken::new();
        self.serve(listener);
    }

    fn serve(&self, listener: TcpListener) {
        let upstream = Arc::clone(&self.upstream);
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = closed.clone();
        let accepting = closed.clone();
        self.runtime
            .spawn(accepting.run_until_cancelled_owned(async move {
                let runtime = Handle::current();
                loop {
                    if let Ok((client, _)) = listener.accept().await {
                        let to = *upstream.lock().unwrap_or_else(PoisonError::into_inner);
                        runtime.spawn(closed.clone().run_until_cancelled_owned(join(client, to)));
                    }
                }
            }));
    }
}

async fn join(mut client: TcpStream, upstream: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(upstream).await {
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
