//! Connections of sources that listen: HTTP/1.1 and HTTP/2 on one port, with or without TLS, bounded in
//! number and time.
//!
//! HTTP/2 is told by its preface, so that it works by prior knowledge too: without TLS, and on TLS
//! without ALPN, which Vector does not offer.

mod alarm;
mod listening;
mod places;
mod prompt;
mod requests;
mod sending;
mod upload;

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use metrics::{SharedString, counter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, sleep, timeout};
use tracing::{debug, warn};

use self::places::{PLACES, Place, Places};
use self::prompt::Prompt;
use self::sending::Sending;
use super::tls::Acceptor;
use crate::telemetry::names;

pub(in crate::source) use self::alarm::Alarm;
pub use self::listening::{Kind, Listening};
pub(in crate::source) use self::requests::{Requests, hurried};
pub use self::upload::Upload;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// What may be read of an HTTP/1 request before its head is whole, in bytes. Of HTTP/2 it is 16 KiB.
const MAX_HEAD: usize = 64 * 1024;

/// Answers the requests of one source.
pub trait Respond: Send + Sync + 'static {
    /// Label of the source's type in metrics.
    const TYPE: &'static str;

    /// Body of an answer.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers a request of the peer with this address.
    fn respond(
        &self,
        request: Request<Upload>,
        peer: IpAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// What one connection may take of time and memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For the whole head of a request, idle time before it included.
    pub head: Duration,
    /// For requests that are in work at a stop.
    pub stop: Duration,
    /// For answers that are ready when their connection makes place for another.
    pub answer: Duration,
    /// Bytes that an HTTP/2 client may send ahead, on a stream and on a connection.
    pub window: u32,
    /// Whether a client of HTTP/1 may close its side and still wait for its answer. Else it has hung
    /// up, and its request ends.
    pub half_close: bool,
    /// Where connections have their place.
    pub(in crate::source) places: &'static Places,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            // Load balancers keep idle connections for 60 s: they, not we, should close them.
            head: Duration::from_secs(75),
            stop: Duration::from_secs(10),
            // They only have to be handed over, unless the client reads nothing.
            answer: Duration::from_millis(100),
            window: 1024 * 1024,
            // As pages do that are left.
            half_close: true,
            places: &PLACES,
        }
    }
}

/// Listens on an address. What connects before [`serve`] waits.
///
/// # Errors
///
/// When the address is in use or not one of this machine.
///
/// # Panics
///
/// Outside of a Tokio runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` becomes true or its sender is gone; then finishes what is in work.
pub async fn serve<R: Respond>(
    listener: TcpListener,
    tls: Option<Acceptor>,
    respond: Arc<R>,
    mut stop: watch::Receiver<bool>,
    limits: Limits,
) {
    let connection = Connection { tls, respond, http: http(limits), stop: stop.clone(), limits };
    let connection = Arc::new(connection);
    let alarm = Alarm::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(times) = alarm.due("accept") {
                    warn!(%error, times, "Connections were not accepted.");
                }
                // Out of file descriptors, most likely: a connection makes place, and without a
                // pause this would spin.
                limits.places.dismiss();
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let place = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            place = limits.places.take() => place,
        };
        let connection = Arc::clone(&connection);
        connections.spawn(async move { connection.run(stream, peer.ip(), place).await });
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.stop, ended).await.is_err() {
        warn!("Requests in work were cut off; their senders will repeat them.");
    }
    connections.shutdown().await;
}

/// Label of what is refused since too many requests, or too many bytes in them, are in work.
pub(in crate::source) const OVERLOAD: &str = "overload";

/// Counts what a source of this type could not receive. Its id is the label of the received events,
/// or the type while nothing tells that.
pub(in crate::source) fn count_error(
    component_type: &'static str,
    component_id: impl Into<SharedString>,
    error_type: &'static str,
) {
    counter!(
        names::ERRORS,
        "component_id" => component_id.into(),
        "component_kind" => "source",
        "component_type" => component_type,
        "error_type" => error_type,
        "stage" => "receiving"
    )
    .increment(1);
}

fn http(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .half_close(limits.half_close);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .initial_stream_window_size(limits.window)
        .initial_connection_window_size(limits.window)
        .max_concurrent_streams(200);
    builder
}

/// What all connections of a source share.
struct Connection<R> {
    tls: Option<Acceptor>,
    respond: Arc<R>,
    http: Builder<TokioExecutor>,
    stop: watch::Receiver<bool>,
    limits: Limits,
}

impl<R: Respond> Connection<R> {
    async fn run(&self, stream: TcpStream, peer: IpAddr, place: Arc<Place>) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "Connection without TCP_NODELAY.");
        }
        let Some(tls) = &self.tls else { return self.speak(stream, peer, place).await };
        let mut stop = self.stop.clone();
        let shaken = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = place.needed() => return,
            shaken = timeout(self.limits.handshake, tls.accept(stream)) => shaken,
        };
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match shaken {
            Ok(stream) => self.speak(stream, peer, place).await,
            Err(error) => {
                debug!(%error, "TLS handshake failed.");
                count_error(R::TYPE, R::TYPE, "tls");
            }
        }
    }

    async fn speak<S>(&self, stream: S, peer: IpAddr, place: Arc<Place>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let (respond, begun) = (Arc::clone(&self.respond), Arc::new(place.begin()));
            let mut request = request.map(|body| Upload::new(body, Arc::clone(&begun)));
            request.extensions_mut().insert(Arc::clone(&begun));
            async move {
                let answer = respond.respond(request, peer).await;
                let leaving = begun.answered();
                drop(begun);
                Ok::<_, Infallible>(answer.map(|body| Sending::new(body, leaving)))
            }
        });
        let io = TokioIo::new(Prompt::new(stream, self.limits.head));
        let mut connection = pin!(self.http.serve_connection(io, service));
        let mut stop = self.stop.clone();
        // Between requests HTTP/1 has its own time-out; HTTP/2 has none.
        let mut look = interval_at(Instant::now() + self.limits.head, self.limits.head);
        let (mut ending, mut rested) = (false, None);
        let ended = loop {
            let end = tokio::select! {
                ended = connection.as_mut() => break ended,
                () = stop.wait_for(|stop| *stop).map(drop), if !ending => true,
                () = place.needed() => {
                    if !place.is_awaited() {
                        // What is answered may not be sent yet: it leaves first.
                        let left = pin!(timeout(self.limits.answer, place.left()));
                        if let Either::Left((ended, _)) = select(connection.as_mut(), left).await {
                            break ended;
                        }
                        // And what has come may not be read yet: it is answered.
                        match connection.as_mut().now_or_never() {
                            Some(ended) => break ended,
                            None if !place.is_awaited() => break Ok(()),
                            None => {}
                        }
                    }
                    place.hurry();
                    true
                }
                _ = look.tick() => {
                    let before = std::mem::replace(&mut rested, place.rests_after());
                    let rests = rested.is_some() && before == rested;
                    if rests && ending {
                        // It was asked to go, and does not: its HTTP/2 never began, perhaps.
                        break Ok(());
                    }
                    rests
                }
            };
            if end {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        };
        if let Err(error) = ended {
            debug!(error, "Connection ended early.");
        }
    }
}

#[cfg(test)]
mod tests;
