//! One request from its head to its answer.
//!
//! The checks stand in the order of RudderStack's gateway, whose SDKs tell by the status alone
//! whether to send again: 4xx drops the events, anything else repeats them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use http::header::ORIGIN;
use http::request::Parts;
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Body;
use tracing::debug;

use super::answer::{self, Answer, Refusal};
use super::keys::{self, KeyedSource, Keys};
use super::{SourceConfigView, client_ip, cors, pixel};
use crate::config::{Ack, IpNetwork, RudderStackConfig};
use crate::event::split::{Shape, Unsplit, split};
use crate::source::body::{Bodies, Codings, Held, detach};
use crate::source::repeats::NotDelivered;
use crate::source::server::{self, OVERLOAD, Requests, Respond, Upload};
use crate::source::{EventBatch, Health, Incoming, Submit};

/// Label of the metrics.
const TYPE: &str = "rudderstack";

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    /// One event of this type.
    Single(&'static str),
    Batch,
    Import,
    Beacon,
    /// A query string that is one event of this type.
    Pixel(&'static str),
    SourceConfig,
    Health,
    Version,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/identify" => Self::Single("identify"),
            "/v1/track" => Self::Single("track"),
            "/v1/page" => Self::Single("page"),
            "/v1/screen" => Self::Single("screen"),
            "/v1/group" => Self::Single("group"),
            "/v1/alias" => Self::Single("alias"),
            "/v1/merge" => Self::Single("merge"),
            "/v1/batch" => Self::Batch,
            "/v1/import" => Self::Import,
            "/beacon/v1/batch" => Self::Beacon,
            "/pixel/v1/track" => Self::Pixel("track"),
            "/pixel/v1/page" => Self::Pixel("page"),
            "/sourceConfig" | "/sourceConfig/" => Self::SourceConfig,
            "/health" | "/" => Self::Health,
            "/version" => Self::Version,
            _ => return None,
        })
    }

    fn wrong_method(self, method: &Method) -> Option<Answer> {
        match self {
            Self::Single(_) | Self::Batch | Self::Import | Self::Beacon => {
                (method != Method::POST).then(|| answer::wrong_method("POST"))
            }
            Self::Pixel(_) => (method != Method::GET).then(|| answer::wrong_method("GET")),
            Self::SourceConfig | Self::Health | Self::Version => {
                let read = method == Method::GET || method == Method::HEAD;
                (!read).then(|| answer::wrong_method("GET, HEAD"))
            }
        }
    }
}

/// Answers requests.
pub struct Gateway<S> {
    keys: Keys,
    view: SourceConfigView,
    ack: Ack,
    trusted_proxies: Vec<IpNetwork>,
    bodies: Bodies,
    requests: Requests,
    health: Health,
    submit: S,
}

impl<S: Submit> Respond for Gateway<S> {
    const TYPE: &'static str = TYPE;
    type Body = Full<Bytes>;

    async fn respond(&self, request: Request<Upload>, peer: IpAddr) -> Answer {
        self.answer(request, peer).await
    }
}

impl<S: Submit> Gateway<S> {
    /// Makes a gateway that hands its events to `submit`.
    pub fn new(
        config: &RudderStackConfig,
        view: SourceConfigView,
        health: Health,
        submit: S,
    ) -> Self {
        Self {
            keys: Keys::new(&config.write_keys),
            view,
            ack: config.ack,
            trusted_proxies: config.trusted_proxies.clone(),
            bodies: Bodies::new(config.max_body, Codings::Gzip),
            requests: Requests::default(),
            health,
            submit,
        }
    }

    /// Answers one request of `peer`.
    pub async fn answer<B>(&self, request: Request<B>, peer: IpAddr) -> Answer
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        if let Some(answer) = cors::preflight(&head.method, &head.headers) {
            return answer;
        }
        let endpoint = Endpoint::of(head.uri.path());
        let mut answer = match endpoint {
            None => answer::not_found(),
            Some(endpoint) => match endpoint.wrong_method(&head.method) {
                Some(answer) => answer,
                None => {
                    // Until its key tells of whom the request is.
                    let mut source = Arc::from(TYPE);
                    let answer = self.endpoint(endpoint, &head, body, peer, &mut source).await;
                    answer.unwrap_or_else(|refusal| {
                        count_refusal(refusal, source);
                        refusal.answer()
                    })
                }
            },
        };
        cors::share(&mut answer, head.headers.get(ORIGIN));
        debug!(?endpoint, status = answer.status().as_u16(), "Request answered.");
        answer
    }

    async fn endpoint<B>(
        &self,
        endpoint: Endpoint,
        head: &Parts,
        body: B,
        peer: IpAddr,
        of: &mut Arc<str>,
    ) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // Probes are answered however many requests are in work.
        let probe = matches!(endpoint, Endpoint::Health | Endpoint::Version);
        let in_work = self.requests.begin(head);
        if in_work.is_none() && !probe {
            return Err(Refusal::Unavailable(OVERLOAD, Duration::from_secs(1)));
        }
        let query = head.uri.query().unwrap_or_default();
        let (shape, set_type) = match endpoint {
            Endpoint::Single(kind) => (Shape::Single, Some(kind)),
            Endpoint::Batch | Endpoint::Import | Endpoint::Beacon => (Shape::Batch, None),
            Endpoint::Pixel(kind) => {
                self.pixel(query, kind, head, peer).await;
                return Ok(answer::gif());
            }
            Endpoint::SourceConfig => return self.source_config(head),
            Endpoint::Health => return Ok(self.health()),
            Endpoint::Version => return Ok(version()),
        };
        let source = if endpoint == Endpoint::Beacon {
            let key = pixel::parameter(query, "writeKey").filter(|key| !key.is_empty());
            self.keys.find(&key.ok_or(Refusal::NoKeyInQuery)?)?
        } else {
            self.keys.find(&keys::from_header(&head.headers).ok_or(Refusal::NoKeyInHeader)?)?
        };
        *of = Arc::clone(&source.origin.source);
        if !source.enabled {
            return Err(Refusal::Disabled);
        }
        let address = self.address(head, peer);
        let (body, held) = self.bodies.read(&head.headers, body, address).await?;
        let mut events = match split(&body, shape) {
            // An import of nothing is done.
            Err(Unsplit::Empty) if endpoint == Endpoint::Import => return Ok(answer::ok()),
            events => events.map_err(Refusal::Unsplit)?,
        };
        detach(&mut events.iter_mut().collect::<Vec<_>>(), &body);
        drop(body);
        self.hand_in(source, events, set_type, head, peer, Some(held)).await?;
        Ok(answer::ok())
    }

    /// Returns the address whose share a body takes. A header counts only behind a proxy that is
    /// named as trusted: elsewhere anybody could make up as many addresses as he likes.
    fn address(&self, head: &Parts, peer: IpAddr) -> IpAddr {
        if self.trusted_proxies.is_empty() {
            return peer;
        }
        client_ip(&head.headers, peer, &self.trusted_proxies).parse().unwrap_or(peer)
    }

    /// Takes a pixel's event. The image is shown whatever becomes of it.
    async fn pixel(&self, query: &str, kind: &'static str, head: &Parts, peer: IpAddr) {
        let mut of = Arc::from(TYPE);
        let taken = async {
            let key = pixel::parameter(query, "writeKey").filter(|key| !key.is_empty());
            let source = self.keys.find(&key.ok_or(Refusal::NoKeyInQuery)?)?;
            of = Arc::clone(&source.origin.source);
            if !source.enabled {
                return Err(Refusal::Disabled);
            }
            let Some(event) = pixel::event(query, kind, Utc::now()) else { return Ok(()) };
            let events = split(&event, Shape::Single).map_err(Refusal::Unsplit)?;
            self.hand_in(source, events, Some(kind), head, peer, None).await
        };
        if let Err(refusal) = taken.await {
            count_refusal(refusal, of);
        }
    }

    async fn hand_in(
        &self,
        source: &KeyedSource,
        events: Vec<Bytes>,
        set_type: Option<&'static str>,
        head: &Parts,
        peer: IpAddr,
        held: Option<Held>,
    ) -> Result<(), Refusal> {
        let elements = events.into_iter().zip(0..);
        let batch = EventBatch {
            elements: elements.map(|(json, position)| Incoming::new(Ok(json), position)).collect(),
            set_type,
            origin: source.origin.clone(),
            received_at: Utc::now(),
            client_ip: Some(client_ip(&head.headers, peer, &self.trusted_proxies)),
        };
        let submitted = self.submit.submit(batch, TYPE, Duration::ZERO, self.ack);
        let acknowledged = submitted.await?;
        // From here on the pipeline's own bound covers the bytes.
        drop(held);
        tokio::select! {
            biased;
            ended = acknowledged => {
                ended?;
            }
            () = server::hurried(head), if self.ack == Ack::Delivered => {
                return Err(NotDelivered.into());
            }
        }
        Ok(())
    }

    fn health(&self) -> Answer {
        if !(self.health)() {
            return answer::unhealthy();
        }
        let health = serde_json::json!({
            "appType": "EMBEDDED",
            "server": "UP",
            "db": "UP",
            "acceptingEvents": "TRUE",
            "routingEvents": "TRUE",
            "mode": "NORMAL",
            "backendConfigMode": "FILE",
            "lastSync": "",
            "lastRegulationSync": "",
        });
        answer::json(health.to_string().into_bytes())
    }

    fn source_config(&self, head: &Parts) -> Result<Answer, Refusal> {
        let key = keys::from_header(&head.headers).ok_or(Refusal::NoKeyInHeader)?;
        // A disabled source is told so: the SDK then stops by itself.
        let source = self.keys.find(&key)?;
        Ok(answer::json(self.view.json(&source.origin, &key, source.enabled)))
    }
}

fn count_refusal(refusal: Refusal, source: Arc<str>) {
    server::count_error(TYPE, source, refusal.label());
}

fn version() -> Answer {
    let version = serde_json::json!({ "Version": env!("CARGO_PKG_VERSION") });
    answer::json(version.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::source::rudderstack::source_config;
    use crate::source::submit::recorder::Recorder;

    #[tokio::test]
    async fn requests_beyond_the_bound_are_refused_and_probes_are_not() {
        let config = RudderStackConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            write_keys: vec![],
            ack: Ack::Buffered,
            max_body: 1000,
            trusted_proxies: vec![],
            tls: None,
        };
        let recorder = Recorder::new(TYPE, Duration::ZERO);
        let view = source_config::tests::view();
        let gateway = Gateway::new(&config, view, Arc::new(|| true), recorder.clone());
        let peer = "127.0.0.1".parse().unwrap();
        let ask = || Request::post("/v1/track").body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        assert_eq!(gateway.answer(ask(), peer).await.status(), 401);
        let gateway = Gateway { requests: Requests::new(0), ..gateway };
        let answer = gateway.answer(ask(), peer).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "1");
        for path in ["/health", "/version"] {
            let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
            assert_eq!(gateway.answer(request, peer).await.status(), 200, "{path}");
        }
        assert!(recorder.batches.lock().unwrap().is_empty());
    }
}
