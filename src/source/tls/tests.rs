use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::ClientConfig;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;

use super::*;
use crate::source::server::{self, Limits, Respond};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for `localhost` and its key, both in PEM form.
fn issued(by: &Authority) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    (params.signed_by(&key, by).unwrap(), key)
}

/// Files of a listener, and the authority that signed its certificate.
struct Files {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap(), authority: authority() };
        files.issue();
        fs::write(files.path("ca.pem"), files.authority.pem()).unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a new certificate and its key.
    fn issue(&self) -> Vec<u8> {
        let (certificate, key) = issued(&self.authority);
        fs::write(self.path("tls.crt"), certificate.pem()).unwrap();
        fs::write(self.path("tls.key"), key.serialize_pem()).unwrap();
        certificate.der().to_vec()
    }

    fn config(&self, clients: bool) -> TlsConfig {
        TlsConfig {
            cert_file: self.path("tls.crt"),
            key_file: self.path("tls.key"),
            client_ca_file: clients.then(|| self.path("ca.pem")),
        }
    }

    fn client(&self, alpn: &[&[u8]], shown: Option<&Authority>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let (certificate, key) = issued(authority);
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                builder.with_client_auth_cert(vec![certificate.der().clone()], key.into()).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

/// Answers with the version of the request.
struct Versions;

impl Respond for Versions {
    const TYPE: &'static str = "test";
    type Body = Full<Bytes>;

    async fn respond(&self, request: Request<server::Upload>, _: IpAddr) -> Response<Full<Bytes>> {
        Response::new(Full::from(format!("{:?}", request.version())))
    }
}

fn serve(tls: Acceptor, limits: Limits) -> (SocketAddr, watch::Sender<bool>) {
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(server::serve(listener, Some(tls), Arc::new(Versions), stopped, limits));
    (address, stop)
}

async fn connect(
    address: SocketAddr,
    client: &TlsConnector,
) -> io::Result<ClientStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    client.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// Asks once over a version of HTTP.
async fn ask(stream: ClientStream<TcpStream>, http2: bool) -> Result<String, hyper::Error> {
    let request = || Request::get("https://localhost/").header("host", "localhost");
    let request = request().body(Empty::<Bytes>::new()).unwrap();
    let io = TokioIo::new(stream);
    let answer = if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_with_and_without_alpn() {
    let files = Files::new();
    let tls = Acceptor::load(&files.config(false), "sources[0].tls").unwrap();
    let (address, _stop) = serve(tls, Limits::default());
    for (alpn, http2, version) in [
        (&[][..], false, "HTTP/1.1"),
        // As stock Vector's gRPC does.
        (&[][..], true, "HTTP/2.0"),
        (&[&b"h2"[..]][..], true, "HTTP/2.0"),
        (&[&b"http/1.1"[..]][..], false, "HTTP/1.1"),
    ] {
        let stream = connect(address, &files.client(alpn, None)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), alpn.first().copied());
        assert_eq!(ask(stream, http2).await.unwrap(), version);
    }
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_are_answered() {
    let files = Files::new();
    let tls = Acceptor::load(&files.config(true), "sources[0].tls").unwrap();
    let (address, _stop) = serve(tls, Limits::default());
    let stream = connect(address, &files.client(&[], Some(&files.authority))).await.unwrap();
    assert_eq!(ask(stream, false).await.unwrap(), "HTTP/1.1");
    for shown in [None, Some(&authority())] {
        // With TLS 1.3 a client learns of it when it reads.
        if let Ok(stream) = connect(address, &files.client(&[], shown)).await {
            ask(stream, false).await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn new_files_are_served_and_wrong_ones_leave_the_old() {
    let files = Files::new();
    let tls = Acceptor::looking_every(Duration::ZERO, &files.config(false), "t").unwrap();
    let (address, _stop) = serve(tls, Limits::default());
    let client = files.client(&[], None);
    let served = || async {
        let stream = connect(address, &client).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let old = served().await;
    let new = files.issue();
    assert_ne!(old, new);
    assert_eq!(served().await, new);
    for broken in ["", "no certificate at all"] {
        fs::write(files.path("tls.crt"), broken).unwrap();
        assert_eq!(served().await, new);
    }
    fs::remove_file(files.path("tls.key")).unwrap();
    assert_eq!(served().await, new);
    let newest = files.issue();
    assert_eq!(served().await, newest);
}

#[tokio::test]
async fn a_client_that_does_not_shake_hands_is_let_go() {
    let files = Files::new();
    let tls = Acceptor::load(&files.config(false), "t").unwrap();
    let handshake = Duration::from_millis(20);
    let (address, _stop) = serve(tls, Limits { handshake, ..Limits::default() });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut rest = Vec::new();
    assert!(stream.read_to_end(&mut rest).await.is_err() || rest.is_empty());
}

#[test]
fn wrong_files_are_named_with_their_key_and_never_shown() {
    let files = Files::new();
    let (_, other) = issued(&files.authority);
    fs::write(files.path("other.key"), other.serialize_pem()).unwrap();
    fs::write(files.path("text"), "s3cret").unwrap();
    fs::write(files.path("bad.pem"), "-----BEGIN CERTIFICATE-----\ns3cret\n").unwrap();
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(files.path("junk.pem"), junk).unwrap();
    let with = |key: &str, file: &str| {
        let mut config = files.config(true);
        match key {
            "cert_file" => config.cert_file = files.path(file),
            "key_file" => config.key_file = files.path(file),
            _ => config.client_ca_file = Some(files.path(file)),
        }
        Acceptor::load(&config, "sources[3].tls").unwrap_err()
    };
    for (key, file, why) in [
        ("cert_file", "not-there", "No such file"),
        ("cert_file", "text", "no certificate in PEM form"),
        ("cert_file", "bad.pem", "not in PEM form"),
        ("cert_file", "tls.key", "no certificate in PEM form"),
        ("key_file", "not-there", "No such file"),
        ("key_file", "tls.crt", "no private key in PEM form"),
        ("key_file", "other.key", "not that of the certificate"),
        ("client_ca_file", "text", "no certificate in PEM form"),
        ("client_ca_file", "junk.pem", ""),
    ] {
        let fault = with(key, file);
        let place = fault.place.as_ref().unwrap();
        assert_eq!(place.key.as_deref(), Some(&*format!("sources[3].tls.{key}")), "{file}");
        assert!(place.file.ends_with(file), "{fault}");
        assert!(fault.message.contains(why), "{file}: {fault}");
        assert!(!fault.to_string().contains("s3cret"), "{fault}");
    }
    with("cert_file", "junk.pem");
}
