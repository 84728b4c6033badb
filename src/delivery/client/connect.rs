//! Connections: name, TCP, and TLS within one time limit, and how often each has been used.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Extensions, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::diagnostic::{Diagnostic, Place};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const TCP_KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Sets up TLS 1.2 and 1.3 with the system's roots (the bundled ones if there are none) and the
/// given files. The provider is this client's own; the process default is left alone.
pub fn tls(extra_roots: &[PathBuf]) -> Result<ClientConfig, Box<Diagnostic>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for file in extra_roots {
        let wrong = |text: String| {
            let place = Place {
                file: file.display().to_string(),
                key: Some("customerio.extra_roots".into()),
                ..Place::default()
            };
            Box::new(Diagnostic::error("invalid_value", text).at(place))
        };
        let certificates = CertificateDer::pem_file_iter(file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| wrong(format!("the root certificates cannot be read: {error}")))?;
        if certificates.is_empty() {
            return Err(wrong("the file holds no certificate in PEM form".into()));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| wrong(format!("a root certificate is not usable: {error}")))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| Diagnostic::error("internal", format!("TLS cannot be set up: {error}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// No connection came about within the time limit.
#[derive(Debug)]
pub struct ConnectTimeout;

impl std::fmt::Display for ConnectTimeout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no connection within `customerio.connect_timeout`")
    }
}

impl std::error::Error for ConnectTimeout {}

/// Opens connections.
#[derive(Clone, Debug)]
pub struct Dialer {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

impl Dialer {
    pub fn new(tls: ClientConfig, timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEP_ALIVE));
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        Self { inner, timeout }
    }
}

impl Service<Uri> for Dialer {
    type Response = Line;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Line, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connecting = self.inner.call(target);
        let timeout = self.timeout;
        async move {
            let stream = tokio::time::timeout(timeout, connecting)
                .await
                .map_err(|_| BoxError::from(ConnectTimeout))??;
            Ok(Line { stream, uses: Uses::default() })
        }
        .boxed()
    }
}

/// How many answers a connection has brought. One that has brought some and then fails was most
/// likely closed by the server for being idle.
#[derive(Clone, Debug, Default)]
pub struct Uses(Arc<AtomicU64>);

impl Uses {
    /// Finds the count of a connection.
    pub fn of(connected: &Connected) -> Option<Self> {
        let mut extras = Extensions::new();
        connected.get_extras(&mut extras);
        extras.remove()
    }

    pub fn answered(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn answers(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One connection.
#[derive(Debug)]
pub struct Line {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    uses: Uses,
}

impl Connection for Line {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.uses.clone())
    }
}

impl Read for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }
}
