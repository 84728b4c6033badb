//! TLS: whom the client trusts, and HTTP/2 by ALPN. The certificates are for these tests alone.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Mutex;

use http::{Response, Version};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::Verdict;
use super::super::tests::config;
use super::*;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

type Versions = Arc<Mutex<Vec<Version>>>;

/// Serves `localhost` with the given protocols; returns the port and the versions of requests.
async fn serve(alpn: &[&[u8]]) -> (u16, Versions) {
    let certificate = CertificateDer::from_pem_file(data("localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(data("localhost.key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tls.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let versions = Versions::default();
    let log = Arc::clone(&versions);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: Request<Incoming>| {
                    let log = Arc::clone(&log);
                    async move {
                        log.lock().unwrap().push(request.version());
                        drop(request.into_body().collect().await.unwrap());
                        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("{}")))
                    }
                });
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    (port, versions)
}

fn client(host: &str, port: u16, extra_roots: Vec<PathBuf>) -> Client {
    let endpoint = Some(format!("https://{host}:{port}").parse().unwrap());
    Client::new(&CustomerIoConfig { endpoint, extra_roots, ..config() }).unwrap()
}

#[tokio::test]
async fn a_configured_root_is_trusted_and_http2_is_used_when_offered() {
    let cases: [(&[&[u8]], Version); 3] = [
        (&[b"h2", b"http/1.1"], Version::HTTP_2),
        (&[b"http/1.1"], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ];
    for (alpn, version) in cases {
        let (port, versions) = serve(alpn).await;
        let client = client("localhost", port, vec![data("root.pem")]);
        let large = Bytes::from(vec![b'7'; 200_000]);
        for _ in 0..2 {
            let reply = client.send(vec![large.clone(), large.clone()], 0).await;
            assert_eq!(reply, Reply::Items(vec![Verdict::Delivered; 2]));
        }
        assert_eq!(*versions.lock().unwrap(), [version; 2]);
    }
}

#[tokio::test]
async fn an_unknown_issuer_or_another_name_is_held() {
    let (port, versions) = serve(&[b"h2"]).await;
    for (host, roots) in [("localhost", vec![]), ("127.0.0.1", vec![data("root.pem")])] {
        let client = client(host, port, roots);
        let Reply::Hold(hold) = client.send(vec![Bytes::from_static(b"1")], 0).await else {
            panic!("{host}")
        };
        assert_eq!(hold.code, "tls");
        assert!(hold.message.contains("certificate"), "{}", hold.message);
        assert_eq!(client.probe().await.unwrap_err().code, "tls");
    }
    assert!(versions.lock().unwrap().is_empty());
}
