//! The way to Customer.io: HTTP over TLS, one request per batch, or per operation with v1.
//!
//! Redirects are never followed, since requests hold personal data and one region's host must not
//! see another region's. What an answer means is decided in [`super::reply`]; what a broken
//! connection means, in `failure`.

mod account;
mod connect;
mod credentials;
mod current;
mod endpoint;
mod failure;
mod outgoing;
mod v1;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::reply::{self, Failure, Policy};
use super::{Destination, Hold, Reply, metering};
use crate::config::{Api, CustomerIoConfig, Region};
use crate::diagnostic::Diagnostic;

pub use account::{Account, ProbeError};

use connect::{Dialer, Uses};
use credentials::Credentials;
use current::{Current, Snapshot};
use outgoing::{Outgoing, request};

/// Longest part of an answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 20;
const IDLE: Duration = Duration::from_secs(60);
const H2_PING: Duration = Duration::from_secs(30);

type Http = hyper_util::client::legacy::Client<Dialer, Outgoing>;

/// A client of one workspace's Track API.
pub struct Client {
    http: Http,
    api: Api,
    batch_uri: Uri,
    account_uri: Uri,
    timeout: Duration,
    /// The base URL, for messages.
    endpoint: String,
    current: Current,
    /// The region to insist on; none with an endpoint of one's own.
    region: Option<Region>,
    environment_id: Option<i64>,
    /// Whose credentials they were at the last answer: told when it changes.
    told: Mutex<Option<Account>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// An answer that came whole, or as far as it is read.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// Whether the connection broke before the end of the body.
    cut: bool,
}

impl Client {
    /// Makes a client. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// The endpoint cannot be used (not `http` or `https`, or `http` to another host without
    /// `allow_insecure`), a colon in the site id, or extra roots that cannot be read.
    pub fn new(config: &CustomerIoConfig) -> Result<Self, Vec<Diagnostic>> {
        let mut wrong = Vec::new();
        let mut keep = |diagnostic: Box<Diagnostic>| wrong.push(*diagnostic);
        let endpoint = endpoint::endpoint(config).map_err(&mut keep).ok();
        let credentials = Credentials::new(config).map_err(&mut keep).ok();
        let tls = connect::tls(&config.extra_roots).map_err(&mut keep).ok();
        let (Some((endpoint, batch_uri, account_uri)), Some(credentials), Some(tls)) =
            (endpoint, credentials, tls)
        else {
            return Err(wrong);
        };
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.concurrency.max(1))
            .http2_keep_alive_interval(H2_PING)
            .build(Dialer::new(tls, config.connect_timeout));
        Ok(Self {
            http,
            api: config.api,
            batch_uri,
            account_uri,
            timeout: config.timeout,
            region: config.endpoint.is_none().then_some(config.region),
            environment_id: config.environment_id,
            told: Mutex::default(),
            current: Current::new(Snapshot::new(
                credentials,
                Policy::new(config, endpoint.clone()),
            )),
            endpoint,
        })
    }

    /// Asks whose credentials these are, and whether they are the configured ones.
    ///
    /// # Errors
    ///
    /// Refused credentials, another region or workspace than configured, or no usable answer.
    pub async fn account(&self) -> Result<Account, ProbeError> {
        self.account_of(&self.current.get()).await
    }

    async fn account_of(&self, current: &Snapshot) -> Result<Account, ProbeError> {
        let uri = self.account_uri.clone();
        let request = request(current, Method::GET, uri, Bytes::new(), 0);
        let answer = match self.exchange(request).await.0 {
            // Half of an answer says nothing about who gave it.
            Ok(answer) if answer.cut && answer.status.is_success() => {
                return Err(ProbeError::from_failure(&Failure::Unreadable, &current.policy));
            }
            Ok(answer) => answer,
            Err(failure) => return Err(ProbeError::from_failure(&failure, &current.policy)),
        };
        let account = account::read(&current.policy, answer.status, &answer.headers, &answer.body)?;
        account.check(self.region, self.environment_id)?;
        current.confirm();
        self.tell(&account);
        Ok(account)
    }

    /// Logs whose credentials these are, so that an operator can pin it.
    fn tell(&self, account: &Account) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.replace(account.clone()).as_ref() != Some(account) {
            tracing::info!(
                region = %account.shown_region(),
                environment_id = account.environment_id,
                "Customer.io has named the workspace of the credentials.",
            );
        }
    }

    /// Makes sure that nothing is sent to another workspace than the pinned one, whenever and
    /// however the credentials came.
    async fn confirm(&self, current: &Snapshot) -> Result<(), Reply> {
        if self.environment_id.is_none() || current.is_confirmed() {
            return Ok(());
        }
        match self.account_of(current).await {
            Ok(_) => Ok(()),
            Err(ProbeError::Refused(hold)) => Err(Reply::Hold(hold)),
            Err(ProbeError::Unreachable(_)) => {
                Err(Reply::Retry { after: None, why: "network", unknown: false })
            }
        }
    }

    async fn deliver(&self, bodies: Vec<Bytes>, attempt: u32) -> Reply {
        let items = bodies.len();
        let form = self.form(&bodies);
        drop(bodies);
        let post = |current: &Snapshot, form: v1::Form| {
            self.exchange(request(current, form.method, form.uri, form.body, attempt))
        };
        let mut current = self.current.get();
        if let Err(reply) = self.confirm(&current).await {
            return reply;
        }
        let (mut result, mut doubtful) = post(&current, form.clone()).await;
        // Nothing of a request without right was applied. If the key was rotated meanwhile, the
        // same request goes again by the new one, and nobody has to wait for a probe.
        if result.as_ref().is_ok_and(|answer| answer.status == StatusCode::UNAUTHORIZED)
            && let Some(newer) = self.current.newer_than(&current).await
        {
            current = newer;
            if let Err(reply) = self.confirm(&current).await {
                return in_doubt(doubtful, reply);
            }
            let again;
            (result, again) = post(&current, form.clone()).await;
            doubtful |= again;
        }
        let policy = &current.policy;
        let reply = match result {
            Err(failure) => failure.reply(policy),
            Ok(answer) if answer.cut && answer.status.is_success() => {
                Failure::Unreadable.reply(policy)
            }
            Ok(Answer { status, headers, body, .. }) => {
                let now = SystemTime::now();
                let reply = reply::classify(policy, status, &headers, &body, items, now);
                if form.alone {
                    self.reply_alone(&current, status, &body, reply).await
                } else {
                    reply
                }
            }
        };
        in_doubt(doubtful, reply)
    }

    /// Sends a request, once more if it met a connection that had been closed meanwhile. Tells
    /// whether a first try had been handed over: whatever became of the second, that one may have
    /// been applied.
    async fn exchange(&self, request: Request<Outgoing>) -> (Result<Answer, Failure>, bool) {
        let began = Instant::now();
        let again = request.clone();
        let handed_over = request.body().handed_over();
        let mut doubtful = false;
        let both = async {
            match self.exchange_once(request).await {
                Err((_, true)) => {
                    doubtful = handed_over.load(Ordering::Relaxed);
                    self.exchange_once(again).await
                }
                first => first,
            }
        };
        let result = match tokio::time::timeout(self.timeout, both).await {
            Ok(result) => result.map_err(|(failure, _stale)| failure),
            Err(_) => Err(Failure::Timeout { sent: handed_over.load(Ordering::Relaxed) }),
        };
        let status = result.as_ref().ok().map(|answer| answer.status);
        metering::answer(status, began.elapsed());
        (result, doubtful)
    }

    /// Sends a request; a failure comes with whether it met a stale connection.
    async fn exchange_once(
        &self,
        mut request: Request<Outgoing>,
    ) -> Result<Answer, (Failure, bool)> {
        let handed_over = request.body().handed_over();
        let connection = capture_connection(&mut request);
        let response = match self.http.request(request).await {
            Ok(response) => response,
            Err(error) => {
                let sent = handed_over.load(Ordering::Relaxed);
                let failure = failure::of(&error, sent);
                let used = connection.connection_metadata().as_ref().and_then(Uses::of);
                let stale = matches!(failure, Failure::Broken { .. })
                    && used.is_some_and(|uses| uses.answers() > 0);
                return Err((failure, stale));
            }
        };
        if let Some(uses) = response.extensions().get::<Uses>() {
            uses.answered();
        }
        if response.status() == StatusCode::MISDIRECTED_REQUEST
            && let Some(connected) = connection.connection_metadata().as_ref()
        {
            // Another connection may lead to a server that is responsible.
            connected.poison();
        }
        let (parts, body) = response.into_parts();
        let (body, cut) = collect(body).await;
        Ok(Answer { status: parts.status, headers: parts.headers, body, cut })
    }
}

impl Destination for Client {
    fn send(&self, bodies: Vec<Bytes>, attempt: u32) -> BoxFuture<'_, Reply> {
        self.deliver(bodies, attempt).boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), Hold>> {
        async {
            self.current.read_credentials_again().await;
            self.account().await.map(drop).map_err(ProbeError::into_hold)
        }
        .boxed()
    }

    /// Takes over credentials, `retry.statuses`, and `retry.item_reasons`. Region, endpoint, roots,
    /// time limits, and the number of connections stay as they were made.
    #[cfg(feature = "pipeline")]
    fn reconfigure(&self, config: &CustomerIoConfig) -> Result<(), Vec<Diagnostic>> {
        let credentials = Credentials::new(config).map_err(|wrong| vec![*wrong])?;
        let known = self.current.get();
        let policy = Policy {
            statuses: config.retry.statuses.clone(),
            item_reasons: config.retry.item_reasons.clone(),
            ..known.policy.clone()
        };
        let same = credentials.are(&known.credentials);
        let next = Snapshot::new(credentials, policy);
        if same && known.is_confirmed() {
            next.confirm();
        }
        self.current.set(next);
        Ok(())
    }
}

fn in_doubt(doubtful: bool, reply: Reply) -> Reply {
    if doubtful { Reply::Doubtful(Box::new(reply)) } else { reply }
}

/// Reads a body up to [`MAX_ANSWER`]; tells whether it broke off.
async fn collect(mut body: Incoming) -> (Bytes, bool) {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => {
                let room = MAX_ANSWER - whole.len();
                whole.extend_from_slice(data.get(..room).unwrap_or(&data));
                if whole.len() >= MAX_ANSWER {
                    break;
                }
            }
            Ok(Err(_trailers)) => {}
            Err(_) => return (whole.freeze(), true),
        }
    }
    (whole.freeze(), false)
}

/// Shared flag of a request body: whether it was handed over whole.
type HandedOver = Arc<std::sync::atomic::AtomicBool>;

#[cfg(test)]
mod rotation_tests;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod tls_tests;
