//! The source on real connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::service::Service;
use super::service::{PUSH, config, event, frame, recorder};
use crate::config::Ack;
use crate::source::server::{Limits, listen, serve};
use crate::source::submit::recorder::Recorder;

/// Serves with these limits; returns the address and what stops it.
fn start(limits: Limits, recorder: &Recorder) -> (std::net::SocketAddr, watch::Sender<bool>) {
    let config = config(1_000_000, Ack::Buffered);
    let listener = listen(config.listen).unwrap();
    let address = listener.local_addr().unwrap();
    let service = Service::new(&config, Arc::new(|| true), recorder.clone());
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, None, Arc::new(service), stopped, limits));
    (address, stop)
}

type Connected = (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>);

/// Connects as Vector does with its option `keepalive`, only more eagerly.
async fn connect(address: std::net::SocketAddr) -> Connected {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(5))
        .keep_alive_while_idle(true);
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn push(sender: &mut SendRequest<Full<Bytes>>) -> bool {
    let body = Full::new(Bytes::from(frame(0, &event())));
    let request = Request::post(format!("http://vector.test{PUSH}"));
    let request = request.header("content-type", "application/grpc").body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap();
    body.trailers().is_some_and(|trailers| trailers["grpc-status"] == "0")
}

#[tokio::test]
async fn a_connection_at_rest_is_closed_in_peace_and_one_that_never_began_too() {
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let recorder = recorder();
    let (address, _stop) = start(limits, &recorder);
    let (mut sender, connection) = connect(address).await;
    assert!(push(&mut sender).await);
    connection.await.unwrap().unwrap();
    for beginning in [&b""[..], b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x04\x01"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let mut rest = Vec::new();
        // With a reset or in peace.
        drop(stream.read_to_end(&mut rest).await);
    }
    assert_eq!(recorder.texts().len(), 1);
}

#[tokio::test]
async fn a_request_in_work_keeps_its_connection() {
    let limits = Limits { head: Duration::from_millis(20), ..Limits::default() };
    let recorder = recorder().holding();
    let (address, _stop) = start(limits, &recorder);
    let (mut sender, connection) = connect(address).await;
    let asked = tokio::spawn(async move { push(&mut sender).await });
    let mut others = 0;
    // While others are closed for their rest, this one is not.
    while others < 3 {
        let (_sender, other) = connect(address).await;
        other.await.unwrap().unwrap();
        others += 1;
    }
    assert!(!connection.is_finished() && !asked.is_finished());
    recorder.hold.unwrap().notify_one();
    assert!(asked.await.unwrap());
}

#[tokio::test]
async fn a_stop_lets_requests_in_work_end() {
    let recorder = recorder().holding();
    let (address, stop) = start(Limits::default(), &recorder);
    let (mut sender, connection) = connect(address).await;
    let asked = tokio::spawn(async move { push(&mut sender).await });
    while recorder.texts().is_empty() {
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    recorder.hold.unwrap().notify_one();
    assert!(asked.await.unwrap());
    connection.await.unwrap().unwrap();
}
