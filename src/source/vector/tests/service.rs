//! Calls of the service, without a connection.

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{Request, Version};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Frame};

use super::super::service::Service;
use super::proto::{bytes, field, log, request, varint};
use crate::config::{Ack, VectorConfig};
use crate::outcome::ReasonCode;
use crate::source::submit::recorder::Recorder;
use crate::source::{EventBatch, Refused, Submit};

impl Recorder {
    pub(super) fn texts(&self) -> Vec<Vec<Result<String, ReasonCode>>> {
        let text = |json: &Bytes| String::from_utf8(json.to_vec()).unwrap();
        let batches = self.batches.lock().unwrap();
        let elements = |batch: &EventBatch| {
            let elements = batch.elements.iter();
            elements.map(|e| e.json.as_ref().map(text).map_err(|reason| reason.code)).collect()
        };
        batches.iter().map(elements).collect()
    }
}

pub(super) fn recorder() -> Recorder {
    // The answer comes within 30 s.
    Recorder::new("vector", Duration::from_secs(10))
}

pub(super) fn config(max_body: u64, ack: Ack) -> VectorConfig {
    VectorConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        event_path: None,
        ack,
        max_body,
        tls: None,
    }
}

fn service(max_body: u64) -> (Service<Recorder>, Recorder) {
    let recorder = recorder();
    let config = config(max_body, Ack::Buffered);
    (Service::new(&config, Arc::new(|| true), recorder.clone()), recorder)
}

pub(super) fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat()
}

pub(super) fn event() -> Vec<u8> {
    request(&[log(&[("type", bytes(b"track"))], None)])
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// As Vector does it: in a stream, without a length.
fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(data, 3).unwrap()
}

fn call<B>(path: &str, encoding: Option<&str>, body: B) -> Request<B> {
    let mut request =
        Request::post(path).version(Version::HTTP_2).header("content-type", "application/grpc");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    request.body(body).unwrap()
}

/// What a caller sees.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    code: u16,
    message: String,
    body: Vec<u8>,
}

async fn ask<S: Submit, B>(service: &Service<S>, request: Request<B>) -> Seen
where
    B: Body<Data = Bytes> + Unpin,
{
    let answer = service.answer(request, [127, 0, 0, 1].into()).await;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    let body = body.to_bytes().to_vec();
    let grpc = trailers.unwrap_or(head.headers);
    let text = |name| grpc.get(name).map(|value| value.to_str().unwrap().to_owned());
    Seen {
        status: head.status.as_u16(),
        code: text("grpc-status").map_or(999, |code| code.parse().unwrap()),
        message: text("grpc-message").unwrap_or_default(),
        body,
    }
}

pub(super) const PUSH: &str = "/vector.Vector/PushEvents";

async fn push<S: Submit>(service: &Service<S>, encoding: Option<&str>, body: &[u8]) -> Seen {
    ask(service, call(PUSH, encoding, Full::new(Bytes::copy_from_slice(body)))).await
}

fn ok() -> Seen {
    Seen { status: 200, code: 0, message: String::new(), body: vec![0; 5] }
}

#[tokio::test]
async fn events_of_a_request_are_one_batch() {
    let (service, recorder) = service(1_000_000);
    let metric = field(2, b"");
    let two = request(&[log(&[("type", bytes(b"track"))], None), metric]);
    assert_eq!(push(&service, None, &frame(0, &two)).await, ok());
    assert_eq!(push(&service, None, &frame(0, b"")).await, ok(), "there is nothing to wait for");
    let track = Ok(r#"{"type":"track"}"#.to_owned());
    assert_eq!(recorder.texts(), [[track, Err(ReasonCode::NotAnEvent)]]);
    let batches = recorder.batches.lock().unwrap();
    assert_eq!((&*batches[0].origin.source, &batches[0].client_ip), ("vector", &None));
}

#[tokio::test]
async fn messages_are_taken_as_they_are_or_decompressed() {
    let (service, recorder) = service(1_000_000);
    let (plain, event) = (frame(0, &event()), event());
    let one_shot = zstd::bulk::compress(&event, 19).unwrap();
    for (encoding, body) in [
        (None, plain.clone()),
        (Some("identity"), plain.clone()),
        // With an encoding a message may be as it is, too.
        (Some("gzip"), plain),
        (Some("gzip"), frame(1, &gzip(&event))),
        (Some("zstd"), frame(1, &zstd(&event))),
        (Some("zstd"), frame(1, &one_shot)),
    ] {
        assert_eq!(push(&service, encoding, &body).await, ok(), "{encoding:?}");
    }
    assert_eq!(recorder.texts().len(), 6);
    assert!(recorder.texts().iter().all(|batch| batch[0].is_ok()));
}

#[tokio::test]
async fn what_can_never_be_taken_is_refused_for_good_and_the_rest_is_not() {
    let (service, recorder) = service(100_000);
    let event = event();
    let large = vec![0; 100_001];
    let broken = [&event[..], &[0x0b]].concat();
    let long_window = {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&event).unwrap();
        encoder.finish().unwrap()
    };
    for (encoding, body, code, text) in [
        (None, frame(0, &broken), 3, "no list of Vector's events"),
        (None, frame(2, &event), 3, "neither 0 nor 1"),
        (None, [frame(0, &event), frame(0, &event)].concat(), 3, "more than one message"),
        (None, [frame(0, &event), vec![0]].concat(), 3, "more than one message"),
        (None, frame(0, &large), 3, "batch.max_events"),
        (Some("gzip"), frame(1, &gzip(&large)), 3, "larger than 100000 bytes"),
        (Some("zstd"), frame(1, &zstd(&large)), 3, "larger than 100000 bytes"),
        (Some("zstd"), frame(1, &zstd::bulk::compress(&large, 1).unwrap()), 3, "`max_body`"),
        // Two bytes each, and each a place in the list.
        (None, frame(0, &request(&vec![vec![]; 2000])), 3, "larger than"),
        (Some("gzip"), frame(1, &event), 3, "not what `grpc-encoding` says"),
        (Some("gzip"), frame(1, &gzip(&event)[..20]), 3, "not what `grpc-encoding` says"),
        (Some("zstd"), frame(1, &gzip(&event)), 3, "not what `grpc-encoding` says"),
        (Some("zstd"), frame(1, &long_window), 3, "not what `grpc-encoding` says"),
        (Some("snappy"), frame(1, &event), 12, "none, gzip, or zstd"),
        // What was lost on the way may be there the next time.
        (None, frame(1, &gzip(&event)), 13, "does a proxy remove it?"),
        (None, frame(0, &event)[..20].to_vec(), 13, "ended early"),
        (None, vec![0, 0, 0], 13, "ended early"),
        (None, vec![], 13, "ended early"),
    ] {
        let seen = push(&service, encoding, &body).await;
        assert_eq!((seen.status, seen.code), (200, code), "{text}: {seen:?}");
        assert!(seen.message.contains(text), "{text}: {seen:?}");
    }
    assert!(recorder.texts().is_empty());
    assert_eq!(push(&service, None, &frame(0, &event)).await, ok(), "nothing is left of them");
}

#[tokio::test]
async fn a_pipeline_that_takes_nothing_is_unavailable() {
    let (service, recorder) = service(1000);
    let full = Refused::Full(Duration::from_secs(3));
    for (refused, text) in [
        (full, "repeat after 3 s"),
        (Refused::Unavailable, "look at the disk"),
        (Refused::Closed, "is stopping"),
    ] {
        recorder.refuse.lock().unwrap().push(refused);
        let seen = push(&service, None, &frame(0, &event())).await;
        assert_eq!((seen.status, seen.code, &seen.body[..]), (200, 14, &b""[..]));
        assert!(seen.message.contains(text), "{seen:?}");
    }
    assert_eq!(push(&service, None, &frame(0, &event())).await, ok());
    let later = Recorder { refuse_later: Some(Refused::Unavailable), ..recorder };
    let config = config(1000, Ack::Buffered);
    let service = Service::new(&config, Arc::new(|| true), later);
    assert_eq!(push(&service, None, &frame(0, &event())).await.code, 14);
}

#[tokio::test]
async fn a_repeat_of_what_waits_for_delivery_is_not_stored_again() {
    let recorder = recorder().holding();
    let hold = recorder.hold.clone().unwrap();
    let config = config(1000, Ack::Delivered);
    let service = Service::new(&config, Arc::new(|| true), recorder.clone());
    let body = frame(0, &event());
    let mut first = Box::pin(push(&service, None, &body));
    while recorder.texts().is_empty() {
        assert!((&mut first).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    // The sender gives up, and sends the same again.
    drop(first);
    let (service_, body_) = (service.clone(), body.clone());
    let again = tokio::spawn(async move { push(&service_, None, &body_).await });
    let other = frame(0, &request(&[log(&[("type", bytes(b"page"))], None)]));
    let (service_, other_) = (service.clone(), other);
    let other = tokio::spawn(async move { push(&service_, None, &other_).await });
    while recorder.texts().len() < 2 {
        tokio::task::yield_now().await;
    }
    while !again.is_finished() || !other.is_finished() {
        hold.notify_one();
        tokio::task::yield_now().await;
    }
    assert_eq!((again.await.unwrap(), other.await.unwrap()), (ok(), ok()));
    assert_eq!(recorder.texts().len(), 2, "the first and the other");
    let next = service.clone();
    let next = tokio::spawn(async move { push(&next, None, &body).await });
    while !next.is_finished() {
        hold.notify_one();
        tokio::task::yield_now().await;
    }
    assert_eq!(recorder.texts().len(), 3, "what is delivered is forgotten");
}

#[tokio::test]
async fn requests_together_are_bounded_and_give_back_what_they_held() {
    // Room for four of the largest, and never for less than 64 MiB.
    let (service, _) = service(32 * 1024 * 1024);
    let part = Bytes::from([&frame(0, b"")[..1], &(20_u32 << 20).to_be_bytes()].concat());
    let chunk = Bytes::from(vec![0; 16 * 1024 * 1024]);
    let unfinished = || {
        let frames = [part.clone(), chunk.clone()].map(Frame::data).map(Ok::<_, Infallible>);
        let body = StreamBody::new(stream::iter(frames).chain(stream::pending()));
        Box::pin(ask(&service, call(PUSH, None, body)))
    };
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut one = unfinished();
        assert!((&mut one).now_or_never().is_none());
        waiting.push(one);
    }
    let whole = frame(0, &event());
    let seen = push(&service, None, &whole).await;
    assert_eq!(seen.code, 14, "{seen:?}");
    assert!(seen.message.contains("too much memory"), "{seen:?}");
    drop(waiting);
    assert_eq!(push(&service, None, &whole).await, ok());
}

#[tokio::test]
async fn health_is_that_of_taking_events() {
    let well = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&well);
    let health = Arc::new(move || asked.load(Ordering::Relaxed));
    let service = Service::new(&config(1000, Ack::Buffered), health, recorder());
    let check = async |path: &str, question: &[u8]| {
        let body = Full::new(Bytes::from(frame(0, question)));
        let seen = ask(&service, call(path, None, body)).await;
        (seen.code, seen.body)
    };
    let service_name = |name: &str| [vec![0x0a], varint(name.len() as u64), name.into()].concat();
    for (is_well, vectors, grpc) in [(true, &b""[..], 1), (false, &[8, 1], 2)] {
        well.store(is_well, Ordering::Relaxed);
        assert_eq!(check("/vector.Vector/HealthCheck", b"").await, (0, frame(0, vectors)));
        let answer = (0, frame(0, &[8, grpc]));
        assert_eq!(check("/grpc.health.v1.Health/Check", b"").await, answer);
        let named = service_name("vector.Vector");
        assert_eq!(check("/grpc.health.v1.Health/Check", &named).await, answer);
    }
    assert_eq!(check("/grpc.health.v1.Health/Check", &service_name("other")).await.0, 5);
    assert_eq!(check("/grpc.health.v1.Health/Check", &[0x0a, 9]).await.0, 3);
    assert_eq!(check("/grpc.health.v1.Health/Watch", b"").await.0, 12);
    assert_eq!(check("/vector.Vector/Pull", b"").await.0, 12);
}

#[tokio::test]
async fn who_does_not_speak_grpc_is_told_what_is_here() {
    let (service, recorder) = service(1000);
    let empty = || Full::new(Bytes::new());
    let json = Request::post("/").header("content-type", "application/json").body(empty());
    let get = Request::get("/health").body(empty());
    let old = Request::post(PUSH).header("content-type", "application/grpc").body(empty());
    for (request, status) in [(json, 415), (get, 405), (old, 505)] {
        let seen = ask(&service, request.unwrap()).await;
        assert_eq!((seen.status, seen.code), (status, 999));
        assert!(String::from_utf8(seen.body).unwrap().contains("`http`"));
    }
    assert!(recorder.texts().is_empty());
}
