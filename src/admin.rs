//! The operator's endpoints: health, metrics, status, and control.
//!
//! Speaks HTTP/1.1 and knows nothing of the pipeline but [`Process`]. Errors are `text/plain`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 while the process runs |
//! | `GET /readyz` | 200, or 503 with the reasons why new events cannot be accepted |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /status` | JSON, see [`status::Status`] |
//! | `POST /reload` | loads configuration and scripts, see [`Reloaded`]; 422 if refused |
//! | `POST /pause`, `POST /resume` | stops and continues delivery; events are still accepted |
//! | `POST /replay` | replays dead letters, see [`crate::replay::Selection`]; the answer is one JSON
//! object a line while it goes on, and ends with it. A client that goes away stops it |

mod access;
mod answer;
mod reloaded;
pub mod status;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use secrecy::SecretString;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use self::answer::Answer;
use self::status::Status;
use crate::replay::{Message, Refusal, Selection};

pub use self::reloaded::Reloaded;

/// Connections that are served at once; more wait to be accepted.
const CONNECTIONS: usize = 64;

/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest body of a request.
const MAX_BODY: usize = 64 * 1024;

/// How long a client may take for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long open requests may take after the stop.
const GRACE: Duration = Duration::from_secs(2);

/// Pause after the system refused a connection, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the endpoints see of the process.
pub trait Process: Send + Sync + 'static {
    /// Returns why new events cannot be accepted; empty when they can.
    fn unready(&self) -> Vec<String>;

    /// Returns the metrics in Prometheus' text format, or `None` without a recorder.
    fn metrics(&self) -> Option<String>;

    /// Returns the state of everything.
    fn status(&self) -> Status;

    /// Loads configuration and scripts anew; returns what that changed, or text with the reasons why
    /// they are refused.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, String>>;

    /// Stops delivery.
    fn pause(&self);

    /// Goes on with delivery.
    fn resume(&self);

    /// Begins a replay of dead letters, which stops once the receiver of its messages is gone.
    ///
    /// # Errors
    ///
    /// Why it does not begin.
    fn replay(&self, selection: Selection) -> Result<mpsc::Receiver<Message>, Refusal>;
}

/// The server of the endpoints.
pub struct Admin<P> {
    process: Arc<P>,
    token: Option<SecretString>,
}

impl<P> std::fmt::Debug for Admin<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("has_token", &self.token.is_some()).finish_non_exhaustive()
    }
}

impl<P: Process> Admin<P> {
    /// Makes a server; with a token every request must carry it.
    pub fn new(process: Arc<P>, token: Option<SecretString>) -> Self {
        Self { process, token }
    }

    /// Serves until `stop`, then finishes open requests for a moment.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let admin = Arc::new(self);
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut stop = std::pin::pin!(stop);
        loop {
            // Nothing is lost when `stop` wins: a connection that is not accepted is refused by
            // the system once the listener is gone.
            let accepted = tokio::select! {
                accepted = accept(&listener, &room) => accepted,
                () = &mut stop => break,
            };
            let Some((stream, place)) = accepted else { continue };
            let admin = Arc::clone(&admin);
            let service = service_fn(move |request| {
                let admin = Arc::clone(&admin);
                async move { Ok::<_, Infallible>(admin.answer(request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service);
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                // A client that goes away is its own affair.
                drop(connection.await);
                drop(place);
            });
        }
        drop(listener);
        drop(tokio::time::timeout(GRACE, graceful.shutdown()).await);
    }

    async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(refusal) = access::refuse(&request, self.token.as_ref()) {
            return refusal;
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let acts = *request.method() == Method::POST;
        match request.uri().path() {
            "/livez" | "/readyz" | "/metrics" | "/status" if !reads => {
                answer::wrong_method("GET, HEAD")
            }
            "/reload" | "/pause" | "/resume" | "/replay" if !acts => answer::wrong_method("POST"),
            "/livez" => answer::text("live"),
            "/readyz" => answer::ready(&self.process.unready()),
            "/metrics" => answer::metrics(self.process.metrics()),
            "/status" => answer::json(&self.process.status()),
            "/reload" => answer::reloaded(self.process.reload().await),
            "/pause" => {
                self.process.pause();
                answer::text("delivery is paused; events are still accepted")
            }
            "/resume" => {
                self.process.resume();
                answer::text("delivery goes on")
            }
            "/replay" => match selection(request.into_body()).await {
                Ok(selection) => answer::replay(self.process.replay(selection)),
                Err(refusal) => refusal,
            },
            _ => answer::not_found(),
        }
    }
}

/// Reads the body of a replay request; an empty one selects everything.
async fn selection<B>(body: B) -> Result<Selection, Answer>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let refuse = |text: &str| answer::error(http::StatusCode::BAD_REQUEST, text);
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let body = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err(refuse("the body is cut off or larger than 64 KiB")),
        Err(_) => return Err(refuse("the body did not come in time")),
    };
    if body.trim_ascii().is_empty() {
        return Ok(Selection::default());
    }
    serde_json::from_slice(&body).map_err(|error| {
        refuse(&format!(
            "the body must be a JSON object with any of files, reasons, since, dry_run, rate: {error}"
        ))
    })
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            tracing::warn!(%error, "An admin connection could not be accepted.");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

#[cfg(test)]
mod tests;
