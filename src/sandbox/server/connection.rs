//! One connection: from the handshake to its end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::exchange::respond;
use super::socket::{Control, Socket, reset_on_close};

/// A connection on which nothing was asked and nothing is to be answered for this long is closed;
/// within twice this time a request must have arrived whole.
const QUIET: Duration = Duration::from_secs(60);

pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    mut stop: watch::Receiver<bool>,
) {
    if shared.engine().accept() {
        reset_on_close(&stream);
        return;
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "Sandbox could not switch off Nagle's algorithm.");
    }
    let from_elsewhere = !peer.ip().is_loopback();
    let control = Arc::new(Control::default());
    let socket = Socket { stream, control: Arc::clone(&control) };
    let Some(acceptor) = tls else {
        return speak(socket, control, from_elsewhere, &shared, stop).await;
    };
    let shaken = tokio::select! {
        _ = stop.changed() => return,
        shaken = tokio::time::timeout(QUIET, acceptor.accept(socket)) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => speak(stream, control, from_elsewhere, &shared, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "Sandbox could not agree on TLS."),
        Err(_) => tracing::debug!("Sandbox waited in vain for a TLS handshake."),
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    control: Arc<Control>,
    from_elsewhere: bool,
    shared: &Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    // Requests that hang wait for this sender's end, so that HTTP/2's tasks end with the connection.
    let (open, closed) = watch::channel(());
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, control) = (Arc::clone(shared), Arc::clone(&control));
        let closed = closed.clone();
        async move { respond(request, from_elsewhere, &shared, control, closed).await }
    });
    let builder = Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut ending = false;
    let mut quiet = tokio::time::interval_at(Instant::now() + QUIET, QUIET);
    let mut rest = control.rest();
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "Sandbox connection ended early.");
                }
                break;
            }
            () = control.cut.notified() => break,
            () = control.last.notified(), if !ending => ending = true,
            _ = stop.changed(), if !ending => ending = true,
            _ = quiet.tick() => {
                let was = std::mem::replace(&mut rest, control.rest());
                if rest.is_none() || was != rest {
                    continue;
                }
                if ending {
                    break;
                }
                ending = true;
            }
        }
        if ending {
            connection.as_mut().graceful_shutdown();
        }
    }
    drop(open);
}
