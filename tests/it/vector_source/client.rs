//! A client of gRPC on one HTTP/2 connection, with the settings of Vector's.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

pub const PUSH: &str = "/vector.Vector/PushEvents";

/// A message as it goes over the connection.
pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(data, 1).unwrap()
}

/// What a caller sees.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub status: u16,
    pub code: u16,
    pub message: String,
    pub body: Vec<u8>,
}

pub struct Client {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

/// A call under way.
pub type Call = JoinHandle<io::Result<Seen>>;

impl Client {
    pub fn plain(address: SocketAddr) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async { speak(TcpStream::connect(address).await?).await });
        Self { sender: sender.unwrap(), runtime }
    }

    pub fn tls(address: SocketAddr, config: ClientConfig) -> io::Result<Self> {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await?;
            // The name in the certificate, whatever the address.
            let name = IpAddr::from([127, 0, 0, 1]).into();
            speak(TlsConnector::from(Arc::new(config)).connect(name, stream).await?).await
        })?;
        Ok(Self { sender, runtime })
    }

    /// Starts a call.
    pub fn begin(&self, path: &str, encoding: Option<&str>, body: Vec<u8>) -> Call {
        let mut request = Request::post(format!("http://vector.test{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let mut sender = self.sender.clone();
        self.runtime.spawn(async move {
            sender.ready().await.map_err(io::Error::other)?;
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?;
            let trailers = body.trailers().cloned();
            let grpc = trailers.unwrap_or(head.headers);
            let text = |name| grpc.get(name).map(|value| value.to_str().unwrap().to_owned());
            Ok(Seen {
                status: head.status.as_u16(),
                code: text("grpc-status").map_or(999, |code| code.parse().unwrap()),
                message: text("grpc-message").unwrap_or_default(),
                body: body.to_bytes().to_vec(),
            })
        })
    }

    /// Waits for the end of a call.
    pub fn end(&self, call: Call) -> Seen {
        self.runtime.block_on(call).unwrap().unwrap()
    }

    pub fn call(&self, path: &str, encoding: Option<&str>, body: Vec<u8>) -> Seen {
        self.end(self.begin(path, encoding, body))
    }

    pub fn try_call(&self, path: &str, encoding: Option<&str>, body: Vec<u8>) -> io::Result<Seen> {
        self.runtime.block_on(self.begin(path, encoding, body)).map_err(io::Error::other)?
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn speak<S>(stream: S) -> io::Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(2 << 20).initial_connection_window_size(5 << 20);
    let (sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
