//! Connections: HTTP/1.1 and HTTP/2 (by prior knowledge) on one port, bounded in number and time.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tracing::{debug, warn};

use super::gateway::Gateway;
use crate::source::Submit;

/// Connections that may be open at once; further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 10_000;

/// How long the server waits for others.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the whole head of a request, idle time before it included.
    pub head: Duration,
    /// For requests that are in work at a stop.
    pub stop: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        // Load balancers keep idle connections for 60 s: they, not we, should close them.
        Self { head: Duration::from_secs(75), stop: Duration::from_secs(10) }
    }
}

/// Serves until `stop` becomes true or its sender is gone.
pub async fn serve<S: Submit>(
    listener: TcpListener,
    gateway: Arc<Gateway<S>>,
    mut stop: watch::Receiver<bool>,
    patience: Patience,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    // A client may close its side once the request is sent, as pages do that are left.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(patience.head).half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .max_concurrent_streams(200);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, peer)| (stream, peer, place))
        };
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: without a pause this would spin.
                warn!(%error, "Connection not accepted.");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "Connection without TCP_NODELAY.");
        }
        let (gateway, peer) = (Arc::clone(&gateway), peer.ip());
        let service = service_fn(move |request| respond(Arc::clone(&gateway), request, peer));
        let io = TokioIo::new(Prompt::new(stream, patience.head));
        let connection = builder.serve_connection(io, service).into_owned();
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(error, "Connection ended early.");
            }
            drop(place);
        });
    }
    drop(listener);
    if timeout(patience.stop, graceful.shutdown()).await.is_err() {
        warn!("Requests in work were cut off; their senders will repeat them.");
    }
    connections.shutdown().await;
}

async fn respond<S: Submit>(
    gateway: Arc<Gateway<S>>,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Result<super::answer::Answer, Infallible> {
    Ok(gateway.answer(request, peer).await)
}

/// A connection whose first bytes must arrive in time.
///
/// The server looks at them to tell HTTP/1 from HTTP/2, before any time-out of HTTP runs.
struct Prompt {
    stream: TcpStream,
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Prompt {
    /// Length of the preface of HTTP/2; a request of HTTP/1.1 is longer.
    const FIRST: usize = 24;

    fn new(stream: TcpStream, patience: Duration) -> Self {
        Self { stream, missing: Self::FIRST, deadline: Box::pin(sleep(patience)) }
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.missing = self.missing.saturating_sub(buf.filled().len() - before);
        if polled.is_pending() && self.missing > 0 && self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
