//! One request from its head to its answer.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use hyper::body::Body;
use tracing::{debug, warn};

use super::answer::{self, Answer, Refusal};
use super::elements::{Element, Uncut, cut};
use super::token::Token;
use crate::config::{Ack, HttpConfig};
use crate::event::at_path::at_path;
use crate::source::body::{Bodies, Codings, Held, detach, pour_away};
use crate::source::repeats::{Fingerprint, Repeats, fingerprint};
use crate::source::server::{self, Alarm, OVERLOAD, Requests, Respond, Upload};
use crate::source::submit::Acknowledged;
use crate::source::{EventBatch, Health, Incoming, Origin, Submit};

/// Label of the source and of its metrics.
const TYPE: &str = "http";

/// How long a request waits for room in memory. Once it is inside it is stored within 20 s, so that a
/// sender has its answer within 30 s.
const WAIT: Duration = Duration::from_secs(8);

/// Bodies above this length are worked on by another thread, in bytes: others wait meanwhile.
const WORK_HERE: usize = 256 * 1024;

/// Answers requests.
pub(super) struct Receiver<S> {
    token: Option<Token>,
    event_path: Option<Vec<String>>,
    ack: Ack,
    max_body: u64,
    bodies: Bodies,
    requests: Requests,
    origin: Origin,
    health: Health,
    repeats: Repeats,
    alarm: Alarm,
    submit: S,
}

impl<S: Submit> Respond for Receiver<S> {
    const TYPE: &'static str = TYPE;
    type Body = Full<Bytes>;

    async fn respond(&self, request: Request<Upload>, peer: IpAddr) -> Answer {
        self.answer(request, peer).await
    }
}

impl<S: Submit> Receiver<S> {
    /// Makes a receiver that hands its events to `submit`.
    pub(super) fn new(config: &HttpConfig, health: Health, submit: S) -> Self {
        Self {
            token: config.token.as_ref().map(Token::new),
            event_path: config.event_path.clone(),
            ack: config.ack,
            max_body: config.max_body,
            bodies: Bodies::new(config.max_body, Codings::All),
            requests: Requests::default(),
            origin: Origin { source: TYPE.into(), source_type: "".into() },
            health,
            repeats: Repeats::default(),
            alarm: Alarm::default(),
            submit,
        }
    }

    /// Answers one request of `peer`.
    pub(super) async fn answer<B>(&self, request: Request<B>, peer: IpAddr) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        if matches!(head.method, Method::GET | Method::HEAD) {
            return match self.shows_wrong_token(&head.headers) {
                // No events are lost by it, so it is no alarm.
                true => {
                    server::count_error(TYPE, TYPE, Refusal::WrongToken.label());
                    Refusal::WrongToken.answer(self.max_body)
                }
                false => answer::health((self.health)()),
            };
        }
        let answer = match self.take(&head, body, peer).await {
            Ok(()) => answer::ok(),
            Err(refusal) => self.refuse(refusal),
        };
        debug!(status = answer.status().as_u16(), "Request answered.");
        answer
    }

    async fn take<B>(&self, head: &Parts, mut body: B, peer: IpAddr) -> Result<(), Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let busy =
            Refusal::Unavailable(Duration::from_secs(1), OVERLOAD, "too many requests; send again");
        let _in_work = self.requests.begin(head).ok_or(busy)?;
        if let Some(refusal) = self.refusal(head) {
            pour_away(&mut body).await;
            return Err(refusal);
        }
        let (body, held) = self.bodies.read(&head.headers, body, peer).await?;
        let received_at = Utc::now();
        let ndjson = is_ndjson(&head.headers);
        if self.ack == Ack::Buffered {
            if let Some(end) = self.hand_in(body, held, ndjson, received_at).await? {
                end.await?;
            }
            return Ok(());
        }
        let (request, body, held) = self.fingerprint(body, held, ndjson).await?;
        let take = self.hand_in(body, held, ndjson, received_at);
        self.repeats.once(request, take, server::hurried(head)).await
    }

    /// Hands the events of a body in. There is nothing to wait for if there are none.
    async fn hand_in(
        &self,
        body: Bytes,
        held: Held,
        ndjson: bool,
        received_at: DateTime<Utc>,
    ) -> Result<Option<Acknowledged>, Refusal> {
        let (elements, held) = self.elements(body, held, ndjson).await?;
        if elements.is_empty() {
            return Ok(None);
        }
        // One batch, however large: it is taken or refused whole, so that a repetition repeats nothing.
        let batch = self.batch(elements, received_at);
        let acknowledged = self.submit.submit(batch, TYPE, WAIT, self.ack).await?;
        // From here on the pipeline's own bound covers the bytes.
        drop(held);
        Ok(Some(acknowledged))
    }

    /// Tells one request from another by all that decides which events it holds.
    async fn fingerprint(
        &self,
        body: Bytes,
        held: Held,
        ndjson: bool,
    ) -> Result<(Fingerprint, Bytes, Held), Refusal> {
        apart(body.len(), move || (fingerprint(&[&[u8::from(ndjson)], &body]), body, held)).await
    }

    /// Whether a probe presents what would be refused with events. A load balancer presents nothing;
    /// a sender that asks before it sends anything, as Vector's health check does, is told in time.
    fn shows_wrong_token(&self, headers: &HeaderMap) -> bool {
        let presented = headers.contains_key(AUTHORIZATION);
        self.token.as_ref().is_some_and(|token| presented && !token.is_in(headers))
    }

    /// Says what is wrong with a head.
    fn refusal(&self, head: &Parts) -> Option<Refusal> {
        if !matches!(head.method, Method::POST | Method::PUT) {
            return Some(Refusal::WrongMethod);
        }
        match &self.token {
            Some(token) if !token.is_in(&head.headers) => return Some(Refusal::WrongToken),
            // A page may make a browser send to any address, loopback included; browsers mark it.
            None if head.headers.contains_key(ORIGIN) => return Some(Refusal::FromPage),
            _ => {}
        }
        content_type(&head.headers).starts_with("application/grpc").then_some(Refusal::Grpc)
    }

    /// Cuts a body, and finds the event in each element.
    async fn elements(
        &self,
        body: Bytes,
        held: Held,
        ndjson: bool,
    ) -> Result<(Vec<Element>, Held), Refusal> {
        let (path, length) = (self.event_path.clone(), body.len());
        // The body is held as long as the work goes on, also when the sender hangs up.
        let cut = move || cut_at(body, ndjson, path.as_deref()).map(|elements| (elements, held));
        apart(length, cut).await?.map_err(Refusal::Uncut)
    }

    fn batch(&self, elements: Vec<Element>, received_at: DateTime<Utc>) -> EventBatch {
        let elements = elements.into_iter().zip(0..);
        EventBatch {
            elements: elements.map(|(json, position)| Incoming::new(json, position)).collect(),
            set_type: None,
            origin: self.origin.clone(),
            received_at,
            // The peer is a stage of a pipeline, and not the client of whom an event tells.
            client_ip: None,
        }
    }

    fn refuse(&self, refusal: Refusal) -> Answer {
        let kind = refusal.label();
        server::count_error(TYPE, TYPE, kind);
        if refusal.is_final()
            && let Some(requests) = self.alarm.due(kind)
        {
            let (status, why) = (refusal.status().as_u16(), refusal.text(self.max_body));
            warn!(status, requests, why, "Requests were refused; most senders drop their events.");
        }
        refusal.answer(self.max_body)
    }
}

/// Does what takes long with a body of this length where nobody waits for it.
async fn apart<T: Send + 'static>(
    length: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if length <= WORK_HERE {
        return Ok(work());
    }
    let defect = Refusal::Unavailable(Duration::from_secs(5), "panic", "a defect; send again");
    tokio::task::spawn_blocking(work).await.map_err(|_| defect)
}

fn cut_at(body: Bytes, ndjson: bool, path: Option<&[String]>) -> Result<Vec<Element>, Uncut> {
    let mut elements = cut(&body, ndjson, path)?;
    if let Some(path) = path {
        for element in &mut elements {
            if let Ok(json) = element {
                *element = at_path(json, path);
            }
        }
    }
    let mut events: Vec<&mut Bytes> = elements.iter_mut().flatten().collect();
    detach(&mut events, &body);
    Ok(elements)
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Tells whether a head says that each line stands for itself.
fn is_ndjson(headers: &HeaderMap) -> bool {
    let media = content_type(headers).split(';').next().unwrap_or_default().trim();
    [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "text/plain",
    ]
    .iter()
    .any(|known| media.eq_ignore_ascii_case(known))
}
