//! Connections: how many, how long they may be idle, and their end; of the HTTP port and the management port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The longest head of a request, in bytes: gateways add tokens of a few kilobytes. A connection's buffer grows up to
/// this, and there are many.
const LARGEST_HEAD: usize = 16 * 1024;

/// What a connection may take, in bytes: its buffer, and its state.
pub(crate) const CONNECTION_BYTES: usize = LARGEST_HEAD + 12 * 1024;

/// Connections that wait to be taken.
const BACKLOG: i32 = 1_024;

/// After an error that is not one connection's fault, such as no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Who a request's connection is from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// The bounds of connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Open at once; what is beyond is closed.
    pub(crate) connections: usize,
    /// `http.idle_timeout`.
    pub(crate) idle: Duration,
    /// How long a request that was read may take to its answer.
    pub(crate) drain: Duration,
}

/// Listens on `address`. `::` is every address of both families, and of IPv4 alone where the system has no IPv6.
///
/// # Errors
///
/// When the port is taken, or the address is not this machine's.
pub(crate) fn listen(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::new(address, port);
    let socket = match Socket::new(Domain::for_address(address), Type::STREAM, None) {
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            return bind(
                Socket::new(Domain::IPV4, Type::STREAM, None)?,
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            );
        }
        socket => socket?,
    };
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    bind(socket, address)
}

fn bind(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    // A new process takes the port of one that has just ended.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves `router` until `stop`; then every request that was read is answered, and its connection
/// closed.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // The time runs while a connection is idle, too.
        .header_read_timeout(bounds.idle)
        .max_buf_size(LARGEST_HEAD);
    let places = Arc::new(Semaphore::new(bounds.connections));
    let (graceful, tasks) = (GracefulShutdown::new(), TaskTracker::new());
    let cut = CancellationToken::new();
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => (stream, Peer(peer.ip())),
                Err(error) => {
                    after(&error).await;
                    continue;
                }
            },
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!("a connection too many was closed");
            continue;
        };
        prepare(&stream, bounds.idle);
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        let (http, watcher, cut) = (http.clone(), graceful.watcher(), cut.clone());
        tasks.spawn(async move {
            // Made here, and pinned in its place: each move on the way would take its size again.
            let connection = http.serve_connection(TokioIo::new(stream), service);
            let connection = pin!(watcher.watch(connection));
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke off");
                },
            }
            drop(place);
        });
    }
    drop(listener);
    // Who does not read their answer must not hold up the end.
    let _ = tokio::time::timeout(bounds.drain, graceful.shutdown()).await;
    cut.cancel();
    tasks.close();
    tasks.wait().await;
}

/// What cannot be set costs some time, and is no reason to refuse anybody.
fn prepare(stream: &TcpStream, patience: Duration) {
    // An answer is one small packet: waiting to fill it would only cost time.
    let _ = stream.set_nodelay(true);
    // Who asks and never reads would else keep a connection for ever.
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(patience));
    #[cfg(not(target_os = "linux"))]
    let _ = patience;
}

/// A connection that was gone before it was taken is nobody's trouble.
async fn after(error: &io::Error) {
    let of_one = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    );
    if !of_one {
        tracing::debug!(%error, "no connection could be taken");
        tokio::time::sleep(PAUSE).await;
    }
}
