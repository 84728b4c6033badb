//! A server whose certificate cannot be trusted holds delivery, until it can.

use std::net::SocketAddr;

use arc_swap::ArcSwap;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority for this test alone.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server's side with a certificate for `name`, by an authority or by itself.
fn side(
    name: &str,
    by: Option<&CertifiedIssuer<'static, KeyPair>>,
    expired: bool,
) -> Arc<ServerConfig> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    if expired {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let certificate = match by {
        Some(authority) => params.signed_by(&key, authority),
        None => params.self_signed(&key),
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.unwrap().der().clone()], key);
    Arc::new(config.unwrap())
}

/// What stands before the sandbox.
#[derive(Clone)]
enum Door {
    Tls(Arc<ServerConfig>),
    /// Speaks HTTP where TLS was expected.
    Plain,
    /// Knows no version of TLS that the client takes, and says so.
    Old,
}

/// Listens before `behind` and passes on what comes through.
async fn doorway(door: Arc<ArcSwap<Door>>, behind: SocketAddr) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let door = Door::clone(&door.load());
            tokio::spawn(async move {
                let mut inside = TcpStream::connect(behind).await.unwrap();
                match door {
                    Door::Old => {
                        // A fatal alert, `protocol_version`, after the client's greeting.
                        let mut greeting = [0; 5];
                        stream.read_exact(&mut greeting).await.unwrap();
                        stream.write_all(&[21, 3, 1, 0, 2, 2, 70]).await.unwrap();
                        drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
                    }
                    Door::Plain => {
                        drop(tokio::io::copy_bidirectional(&mut stream, &mut inside).await);
                    }
                    Door::Tls(config) => {
                        let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else {
                            return;
                        };
                        drop(tokio::io::copy_bidirectional(&mut stream, &mut inside).await);
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_trusted_is_held_until_it_can() {
    let (ours, theirs) = (authority(), authority());
    for (what, wrong) in [
        ("self-signed", Door::Tls(side("localhost", None, false))),
        ("unknown issuer", Door::Tls(side("localhost", Some(&theirs), false))),
        ("expired", Door::Tls(side("localhost", Some(&ours), true))),
        ("another name", Door::Tls(side("track.example", Some(&ours), false))),
        ("no TLS", Door::Plain),
        ("an old protocol", Door::Old),
    ] {
        let mut trip = Trip::new(json!([]), &[]).await;
        let door = Arc::new(ArcSwap::from_pointee(wrong));
        let port = doorway(Arc::clone(&door), trip.sandbox.addr()).await;
        let root = trip.dir.path().join("root.pem");
        std::fs::write(&root, ours.pem()).unwrap();
        trip.config.endpoint = Some(format!("https://localhost:{port}").parse().unwrap());
        trip.config.extra_roots = vec![root];
        trip.config.check_credentials = false;
        let flow = trip.begin(crowd(5)).await;
        flow.is("held", "tls").await;
        assert!(trip.sandbox.requests().is_empty(), "{what}: not even a probe");
        assert!(trip.ended.lock().unwrap().is_empty(), "{what}");
        door.store(Arc::new(Door::Tls(side("localhost", Some(&ours), false))));
        flow.end().await;
        assert_eq!((trip.rejected(), trip.sandbox.people().len()), (0, 5), "{what}");
    }
}
