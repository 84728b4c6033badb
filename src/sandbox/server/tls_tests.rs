//! The sandbox behind TLS, as clients that check certificates see it.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tests::{BATCH, connect, read_all, send};
use crate::sandbox::{RunningSandbox, Sandbox, Tls};

async fn sandbox(tls: Tls, rules: Value) -> RunningSandbox {
    let rules: Vec<_> = serde_json::from_value(rules).unwrap();
    Sandbox::builder().tls(Some(tls)).faults(rules).start().await.unwrap()
}

async fn shake(
    sandbox: &RunningSandbox,
    name: &'static str,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let pem = sandbox.certificate().unwrap();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from(name).unwrap(), connect(sandbox).await).await
}

#[tokio::test]
async fn a_client_that_trusts_the_certificate_speaks_either_http_version() {
    let sandbox = sandbox(Tls::SelfSigned, json!([])).await;
    assert!(sandbox.base_url().starts_with("https://127.0.0.1:"));
    for name in ["localhost", "127.0.0.1", "::1"] {
        let mut stream = shake(&sandbox, name, b"http/1.1").await.unwrap();
        let request = format!(
            "POST /api/v2/batch HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Basic czprZXk=\r\ncontent-length: {}\r\n\r\n{BATCH}",
            BATCH.len()
        );
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let (answer, error) = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert_eq!(error, None);
    }
    let stream = shake(&sandbox, "localhost", b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("{}/api/v2/batch", sandbox.base_url()))
        .header("authorization", "Basic czprZXk=")
        .body(Full::new(Bytes::from(BATCH)))
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
    drop(sender);
    sandbox.shutdown().await;
    driver.abort();
}

#[tokio::test]
async fn an_expired_certificate_and_one_for_another_name_are_refused_by_clients() {
    for (tls, reason) in [(Tls::Expired, "expired"), (Tls::WrongName, "not valid for name")] {
        let sandbox = sandbox(tls, json!([])).await;
        let error = shake(&sandbox, "localhost", b"h2").await.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert_eq!(sandbox.stats().requests, 0);
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn resets_behind_tls_are_tcp_resets() {
    for at in ["after_request", "mid_response"] {
        let sandbox = sandbox(Tls::SelfSigned, json!([{"do": {"reset": at}}])).await;
        let mut stream = shake(&sandbox, "localhost", b"http/1.1").await.unwrap();
        send(&mut stream).await;
        let (answer, error) = read_all(&mut stream).await;
        assert_eq!(error, Some(ErrorKind::ConnectionReset), "{at}");
        assert_eq!(answer.ends_with("\r\n\r\n{"), at == "mid_response", "{answer}");
        assert_eq!(sandbox.people().len(), 1);
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn a_handshake_that_never_comes_does_not_hold_the_stop() {
    let sandbox = sandbox(Tls::SelfSigned, json!([])).await;
    let silent = connect(&sandbox).await;
    while sandbox.stats().connections == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    tokio::time::timeout(super::tests::SOON, sandbox.shutdown()).await.unwrap();
    drop(silent);
}
