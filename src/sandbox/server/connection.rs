//! One connection.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::Shared;
use super::body::{self, WireBody};
use crate::sandbox::request::{Answer, Ending, FromElsewhere};

/// How a request's task ends its connection.
#[derive(Debug, Default)]
pub(super) struct Control {
    end: Notify,
    reset: AtomicBool,
    requests: AtomicU64,
}

impl Control {
    /// Ends the connection with a TCP reset.
    pub(super) fn reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
        self.end.notify_one();
    }

    /// Ends the connection when no further request comes within `idle`.
    fn close_when_idle(self: Arc<Self>, idle: Duration) {
        let seen = self.requests.load(Ordering::SeqCst);
        tokio::spawn(async move {
            tokio::time::sleep(idle).await;
            if self.requests.load(Ordering::SeqCst) == seen {
                self.end.notify_one();
            }
        });
    }
}

/// The socket; dropped with a reset if the control says so.
struct Socket {
    stream: TcpStream,
    control: Arc<Control>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::SeqCst) {
            reset_on_close(&self.stream);
        }
    }
}

/// Without lingering, closing sends RST instead of FIN.
fn reset_on_close(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "Sandbox could not prepare a connection reset.");
    }
}

pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    if shared.engine().accept() {
        reset_on_close(&stream);
        return;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "Sandbox could not switch off Nagle's algorithm.");
    }
    let control = Arc::new(Control::default());
    // Requests that hang wait for this sender's end, so that HTTP/2's tasks end with the connection.
    let (open, closed) = watch::channel(());
    let io = TokioIo::new(Socket { stream, control: Arc::clone(&control) });
    let from_elsewhere = !peer.ip().is_loopback();
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, control, closed) = (Arc::clone(&shared), Arc::clone(&control), closed.clone());
        async move { respond(request, from_elsewhere, &shared, control, closed).await }
    });
    let builder = Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "Sandbox connection ended early.");
                }
                break;
            }
            () = control.end.notified() => break,
            _ = stop.changed(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
    drop(open);
}

async fn respond(
    request: Request<Incoming>,
    from_elsewhere: bool,
    shared: &Shared,
    control: Arc<Control>,
    mut closed: watch::Receiver<()>,
) -> Result<Response<WireBody>, hyper::Error> {
    control.requests.fetch_add(1, Ordering::SeqCst);
    let (mut parts, incoming) = request.into_parts();
    if from_elsewhere {
        parts.extensions.insert(FromElsewhere);
    }
    // An error ends the connection, or in HTTP/2 the stream: nobody is there to read an answer.
    let read = body::read(incoming).await?;
    let request = Request::from_parts(parts, read);
    let plan = shared.engine().begin(&request);
    sleep(plan.wait()).await;
    let Answer { response, wire } = shared.engine().finish(&request, plan);
    sleep(wire.delay).await;
    let (mut parts, whole) = response.into_parts();
    match wire.ending {
        Ending::Hang => {
            // Never changed: returns when the connection is gone.
            let gone = closed.changed().await;
            tracing::trace!(?gone, "Sandbox stopped hanging.");
        }
        Ending::Reset => {
            control.reset();
            std::future::pending::<()>().await;
        }
        Ending::Whole | Ending::ResetMidway | Ending::Slow(_) => {}
    }
    if let Some(idle) = wire.close_idle {
        Arc::clone(&control).close_when_idle(idle);
    }
    let has_body = !whole.is_empty();
    if has_body {
        parts.headers.insert(http::header::CONTENT_LENGTH, whole.len().into());
    }
    let body = match wire.ending {
        Ending::ResetMidway => body::cut(whole, control),
        Ending::Slow(pause) if has_body => body::slow(whole, pause),
        _ => body::whole(whole),
    };
    Ok(Response::from_parts(parts, body))
}

async fn sleep(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
