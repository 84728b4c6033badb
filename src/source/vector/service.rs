//! One call from its head to its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{Method, Request, StatusCode, Version};
use hyper::body::Body;
use tokio::sync::Semaphore;
use tracing::{debug, error, warn};

use super::answer::{self, Answer, Code};
use super::message::{self, PATIENCE};
use super::refusal::Refusal;
use super::unpack::{Encoding, unpack};
use crate::config::{Ack, VectorConfig};
use crate::source::body::{Held, Room};
use crate::source::repeats::{Repeats, fingerprint};
use crate::source::server::{Alarm, Requests, count_error, hurried};
use crate::source::submit::Acknowledged;
use crate::source::{EventBatch, Health, Incoming, Origin, Submit};

/// Label of the metrics, and of the events' origin.
pub const TYPE: &str = "vector";

/// What requests together may hold before the pipeline takes their events, in bytes, if a single
/// one cannot need more.
const ALL_REQUESTS: usize = 64 * 1024 * 1024;

/// Requests that are decompressed and decoded at once; others wait.
const UNPACKING: usize = 4;

/// How long a request waits for room in memory. With the 20 s that it may then take until it is
/// stored it is answered before Vector's 60 s, and Vector sees a reason instead of silence.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(8);

/// The largest message of the health checks, which hold a name at most.
const SMALL: usize = 4096;

/// Answers calls.
#[derive(Clone)]
pub struct Service<S> {
    shared: Arc<Shared>,
    submit: S,
}

struct Shared {
    path: Option<Vec<String>>,
    ack: Ack,
    max: usize,
    room: Arc<Room>,
    requests: Requests,
    unpacking: Arc<Semaphore>,
    repeats: Repeats,
    health: Health,
    alarm: Alarm,
}

impl<S: Submit> Service<S> {
    /// Makes a service that hands its events to `submit`.
    pub fn new(config: &VectorConfig, health: Health, submit: S) -> Self {
        let max = usize::try_from(config.max_body).unwrap_or(usize::MAX / 8);
        // One message, packed and unpacked, and its events always have room.
        let room = ALL_REQUESTS.max(max.saturating_mul(4));
        // There may be one Vector, and then it has one address.
        let room = Room::new(room, room);
        let shared = Shared {
            path: config.event_path.clone(),
            ack: config.ack,
            max,
            room,
            requests: Requests::default(),
            unpacking: Arc::new(Semaphore::new(UNPACKING)),
            repeats: Repeats::default(),
            health,
            alarm: Alarm::default(),
        };
        Self { shared: Arc::new(shared), submit }
    }

    /// Answers one request of `peer`.
    pub async fn answer<B>(&self, request: Request<B>, peer: IpAddr) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        if let Some(status) = not_grpc(&head) {
            return answer::not_grpc(status);
        }
        let answered = match head.uri.path() {
            "/vector.Vector/PushEvents" => {
                self.push(&head, body, peer).await.map(|()| answer::message(b""))
            }
            "/vector.Vector/HealthCheck" => self.health_check(body, peer).await,
            "/grpc.health.v1.Health/Check" => self.grpc_health(body, peer).await,
            "/grpc.health.v1.Health/Watch" => {
                let text = "health is told once for each question: call Check";
                return answer::refusal(Code::Unimplemented, text);
            }
            _ => {
                let text = "this source has the services vector.Vector and grpc.health.v1.Health";
                return answer::refusal(Code::Unimplemented, text);
            }
        };
        answered.unwrap_or_else(|refusal| {
            self.shared.tell(&refusal);
            refusal.answer()
        })
    }

    async fn push<B>(&self, head: &Parts, body: B, peer: IpAddr) -> Result<(), Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
        let shared = &self.shared;
        let _in_work = shared.requests.begin(head).ok_or(Refusal::NoRoom)?;
        let encoding = Encoding::of(head.headers.get(GRPC_ENCODING))?;
        let mut held = Held::nothing(&shared.room, peer);
        let message = message::read(body, shared.max, PATIENCE, &mut held).await?;
        if shared.ack == Ack::Buffered {
            if let Some(end) = self.take(message, encoding, held).await? {
                end.await?;
            }
            return Ok(());
        }
        let (request, message) =
            blocking(move || (fingerprint(&[&message.bytes]), message)).await?;
        shared.repeats.once(request, self.take(message, encoding, held), hurried(head)).await
    }

    async fn take(
        &self,
        message: message::Message,
        encoding: Encoding,
        held: Held,
    ) -> Result<Option<Acknowledged>, Refusal> {
        let (elements, held) = self.unpack(message, encoding, held).await?;
        self.submit(elements, held).await
    }

    /// Gets the events out of a message, away from the threads that serve connections.
    async fn unpack(
        &self,
        message: message::Message,
        encoding: Encoding,
        mut held: Held,
    ) -> Result<(Vec<Incoming>, Held), Refusal> {
        let turn = Arc::clone(&self.shared.unpacking).acquire_owned().await;
        let turn = turn.map_err(|_| Refusal::Internal)?;
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            // The thread goes on when the sender hangs up, so the turn is its own.
            let _turn = turn;
            let path = shared.path.as_deref();
            let elements = unpack(message, encoding, path, shared.max, &mut held)?;
            Ok((elements, held))
        })
        .await?
    }

    /// Hands events in. There is nothing to wait for if there are none.
    async fn submit(
        &self,
        elements: Vec<Incoming>,
        held: Held,
    ) -> Result<Option<Acknowledged>, Refusal> {
        if elements.is_empty() {
            return Ok(None);
        }
        let batch = EventBatch {
            elements,
            set_type: None,
            origin: Origin { source: TYPE.into(), source_type: "".into() },
            received_at: Utc::now(),
            // The peer is Vector, not whom an event is about.
            client_ip: None,
        };
        let end = self.submit.submit(batch, TYPE, WAIT_FOR_ROOM, self.shared.ack).await?;
        // From here on the pipeline's own bound covers the bytes.
        drop(held);
        Ok(Some(end))
    }

    /// Vector's own check, which it makes once, at its start.
    async fn health_check<B>(&self, body: B, peer: IpAddr) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.small(body, peer).await?;
        let not_serving: &[u8] = &[0x08, 1];
        Ok(answer::message(if (self.shared.health)() { b"" } else { not_serving }))
    }

    /// The check of gRPC itself, which load balancers and Kubernetes make.
    async fn grpc_health<B>(&self, body: B, peer: IpAddr) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let question = self.small(body, peer).await?;
        let (mut fields, mut service) = (super::wire::Fields::of(&question), &[][..]);
        while let Some((number, field)) = fields.next()? {
            if number == 1 {
                service = field.bytes()?;
            }
        }
        if !matches!(service, b"" | b"vector.Vector") {
            return Ok(answer::refusal(Code::NotFound, "there is no such service"));
        }
        let status = if (self.shared.health)() { 1 } else { 2 };
        Ok(answer::message(&[0x08, status]))
    }

    async fn small<B>(&self, body: B, peer: IpAddr) -> Result<Bytes, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut held = Held::nothing(&self.shared.room, peer);
        let message = message::read(body, SMALL, PATIENCE, &mut held).await?;
        if message.compressed { Err(Refusal::NoEncoding) } else { Ok(message.bytes) }
    }
}

impl Shared {
    /// Counts a refused request, and tells the log of it now and then.
    fn tell(&self, refusal: &Refusal) {
        let kind = refusal.label();
        count_error(TYPE, TYPE, kind);
        let reason = refusal.text();
        if refusal.may_pass() {
            debug!(reason, "Request refused for now; Vector repeats it.");
        } else if let Some(requests) = self.alarm.due(kind) {
            warn!(requests, reason, "Request refused for good; Vector drops its events.");
        }
    }
}

/// Returns the status for a request that is no call.
fn not_grpc(head: &Parts) -> Option<StatusCode> {
    let content = head.headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let is_grpc = matches!(content, Some(b"application/grpc" | b"application/grpc+proto"));
    if head.method != Method::POST {
        Some(StatusCode::METHOD_NOT_ALLOWED)
    } else if !is_grpc {
        Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    } else {
        (head.version < Version::HTTP_2).then_some(StatusCode::HTTP_VERSION_NOT_SUPPORTED)
    }
}

/// Runs work that takes long on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|failed| {
        error!(%failed, "A request could not be decoded.");
        Refusal::Internal
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;
    use crate::source::submit::recorder::Recorder;

    #[tokio::test]
    async fn requests_beyond_the_bound_may_come_again_and_health_is_told() {
        let config = VectorConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            event_path: None,
            ack: Ack::Buffered,
            max_body: 1000,
            tls: None,
        };
        let recorder = Recorder::new(TYPE, WAIT_FOR_ROOM);
        let mut service = Service::new(&config, Arc::new(|| true), recorder.clone());
        let ask = async |service: &Service<Recorder>, path: &str| {
            let request = Request::post(path)
                .version(Version::HTTP_2)
                .header(CONTENT_TYPE, "application/grpc")
                .body(Full::new(Bytes::from_static(&[0; 5])));
            service.answer(request.unwrap(), IpAddr::from([127, 0, 0, 1])).await
        };
        let push = "/vector.Vector/PushEvents";
        assert!(ask(&service, push).await.headers().get("grpc-status").is_none());
        Arc::get_mut(&mut service.shared).unwrap().requests = Requests::new(0);
        assert_eq!(ask(&service, push).await.headers()["grpc-status"], "14");
        let health = ask(&service, "/vector.Vector/HealthCheck").await;
        assert!(health.headers().get("grpc-status").is_none());
        assert!(recorder.batches.lock().unwrap().is_empty());
    }
}
