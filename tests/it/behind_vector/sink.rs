//! One attempt to send a request, as the sinks `vector` and `http` of Vector 0.58 make it, and what
//! they make of its answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::wire::{self, Compression, Event, Framing, Path};

/// The sink of Vector that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    Http(Framing),
}

/// What the http sink shows as `auth`.
pub const TOKEN: &str = "token-of-the-tests";

/// What Vector does after an answer, or after none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Delivered,
    /// The same bytes again after a while.
    Retry(String),
    /// The events are lost.
    Dropped(String),
}

/// A sink's connections.
pub enum Client {
    /// One connection for everything.
    Grpc(SocketAddr, tokio::sync::Mutex<Option<SendRequest<Sent>>>),
    /// As many as requests in flight, kept alive.
    Http(SocketAddr, Mutex<Vec<TcpStream>>),
}

/// A body whose length is not told, since Vector sends no `content-length` over gRPC.
type Sent =
    StreamBody<futures_util::stream::Once<std::future::Ready<Result<Frame<Bytes>, Infallible>>>>;

/// A request as it is sent, each time the same.
#[derive(Clone, Debug)]
pub struct Encoded {
    head: String,
    compression: Option<&'static str>,
    body: Bytes,
}

impl Protocol {
    pub fn encode(
        self,
        events: &[Event],
        path: Path,
        compression: Compression,
        to: SocketAddr,
    ) -> Encoded {
        let (content_type, body) = match self {
            Self::Grpc => {
                let message = compression.pack(wire::push_events(events, path));
                let length = u32::try_from(message.len()).unwrap().to_be_bytes();
                let flag = u8::from(compression != Compression::None);
                ("", [&[flag][..], &length, &message].concat())
            }
            Self::Http(framing) => {
                let content_type = match framing {
                    Framing::Array => "application/json",
                    Framing::Lines => "application/x-ndjson",
                };
                (content_type, compression.pack(wire::body(events, framing)))
            }
        };
        let head = http_head(content_type, compression, to, body.len());
        Encoded { head, compression: compression.name(), body: body.into() }
    }
}

/// The head of the http sink, header for header.
fn http_head(
    content_type: &str,
    compression: Compression,
    to: SocketAddr,
    length: usize,
) -> String {
    let coding = compression.name().map(|name| format!("content-encoding: {name}\r\n"));
    format!(
        "POST /v1/vector HTTP/1.1\r\ncontent-type: {content_type}\r\n{}authorization: Bearer {TOKEN}\r\n\
         accept-encoding: zstd,gzip,deflate,br\r\n\
         user-agent: Vector/0.58.0 (x86_64-unknown-linux-gnu)\r\nhost: {to}\r\n\
         content-length: {length}\r\n\r\n",
        coding.unwrap_or_default()
    )
}

impl Client {
    pub fn new(protocol: Protocol, to: SocketAddr) -> Self {
        match protocol {
            Protocol::Grpc => Self::Grpc(to, tokio::sync::Mutex::default()),
            Protocol::Http(_) => Self::Http(to, Mutex::default()),
        }
    }

    /// Vector's check at its start; it sends whatever comes of it.
    pub async fn health_check(&self) -> Answer {
        match self {
            Self::Grpc(to, connection) => {
                let body = Bytes::from_static(&[0; 5]);
                call(*to, connection, "/vector.Vector/HealthCheck", None, body).await
            }
            Self::Http(to, _) => {
                let head = format!(
                    "HEAD / HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\nhost: {to}\r\n\r\n"
                );
                let answered = async {
                    let mut stream = TcpStream::connect(to).await?;
                    exchange(&mut stream, head.as_bytes(), true).await
                };
                by_status(answered.await.map(|(status, _)| status))
            }
        }
    }

    /// Sends a request once.
    pub async fn send(&self, request: &Encoded) -> Answer {
        match self {
            Self::Grpc(to, connection) => {
                let path = "/vector.Vector/PushEvents";
                call(*to, connection, path, request.compression, request.body.clone()).await
            }
            Self::Http(to, idle) => {
                let kept = idle.lock().unwrap().pop();
                let mut bytes = request.head.clone().into_bytes();
                bytes.extend_from_slice(&request.body);
                let answered = async {
                    let mut stream = match kept {
                        Some(stream) => stream,
                        None => TcpStream::connect(to).await?,
                    };
                    stream.set_nodelay(true)?;
                    let (status, keep) = exchange(&mut stream, &bytes, false).await?;
                    if keep {
                        idle.lock().unwrap().push(stream);
                    }
                    Ok(status)
                };
                by_status(answered.await)
            }
        }
    }
}

fn by_status(answered: std::io::Result<u16>) -> Answer {
    match answered {
        Ok(200..300) => Answer::Delivered,
        Ok(status @ (408 | 429 | 500 | 502..600)) => Answer::Retry(format!("HTTP {status}")),
        Ok(status) => Answer::Dropped(format!("HTTP {status}")),
        Err(error) => Answer::Retry(error.to_string()),
    }
}

/// Sends a request over HTTP/1.1; returns the status, and whether the connection can be kept.
async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    is_head: bool,
) -> std::io::Result<(u16, bool)> {
    let broken = || std::io::Error::other("the connection ended within an answer");
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(broken());
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let status =
        text.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let header = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| *known == name).map(|(_, value)| value.trim())
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while !is_head && bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(broken());
        }
    }
    Ok((status, header("connection") != Some("close")))
}

/// A call of gRPC over HTTP/2 by prior knowledge, on the sink's one connection.
async fn call(
    to: SocketAddr,
    connection: &tokio::sync::Mutex<Option<SendRequest<Sent>>>,
    path: &str,
    compression: Option<&str>,
    body: Bytes,
) -> Answer {
    let mut sender = {
        let mut connection = connection.lock().await;
        match connection.as_ref().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender.clone(),
            None => match connect(to).await {
                Ok(sender) => connection.insert(sender).clone(),
                Err(error) => return Answer::Retry(error.to_string()),
            },
        }
    };
    let mut request = Request::post(format!("http://{to}{path}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc");
    if let Some(compression) = compression {
        request = request.header("grpc-encoding", compression);
    }
    let body = futures_util::stream::once(std::future::ready(Ok(Frame::data(body))));
    let request = request.body(StreamBody::new(body)).unwrap();
    let answered = async {
        sender.ready().await?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        Ok::<_, hyper::Error>((head, body))
    };
    let (head, body) = match answered.await {
        Ok(answered) => answered,
        Err(error) => return Answer::Retry(format!("{error:?}")),
    };
    let trailers = body.trailers().cloned();
    let has_message = !body.to_bytes().is_empty();
    match status_of(trailers.as_ref().unwrap_or(&head.headers)) {
        Some((0, _)) if has_message => Answer::Delivered,
        Some((0, _)) => Answer::Retry("missing response message".to_owned()),
        Some((1 | 2 | 4 | 8..=10 | 13 | 14, text)) => Answer::Retry(text),
        Some((_, text)) => Answer::Dropped(text),
        None if !has_message && matches!(head.status.as_u16(), 401 | 403 | 404) => {
            Answer::Dropped(head.status.to_string())
        }
        None => Answer::Retry(head.status.to_string()),
    }
}

async fn connect(to: SocketAddr) -> std::io::Result<SendRequest<Sent>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(2 << 20).initial_connection_window_size(5 << 20);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn status_of(headers: &HeaderMap) -> Option<(u16, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let text = headers.get("grpc-message").and_then(|text| text.to_str().ok()).unwrap_or_default();
    Some((code, format!("gRPC {code}: {text}")))
}

#[test]
fn heads_are_those_that_vector_sent() {
    let recorded = format!("{}/tests/data/vector-http", env!("CARGO_MANIFEST_DIR"));
    for (file, content_type, compression) in [
        ("ndjson-zstd", "application/x-ndjson", Compression::Zstd),
        ("json-array-gzip", "application/json", Compression::Gzip),
        ("json-array", "application/json", Compression::None),
    ] {
        let sent = std::fs::read(format!("{recorded}/{file}.http")).unwrap();
        let end = sent.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        let length = sent.len() - end;
        let made = http_head(content_type, compression, "127.0.0.1:16006".parse().unwrap(), length);
        let made = made.replace(&format!("authorization: Bearer {TOKEN}\r\n"), "");
        assert_eq!(String::from_utf8_lossy(&sent[..end]), made, "{file}");
    }
}
