use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::tests::config;
use super::super::{Refusal, Verdict};
use super::*;

type Answers = dyn Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync;

/// A server that answers by a function and keeps the requests.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) seen: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl Server {
    pub(super) async fn start(
        answer: impl Fn(&Request<Bytes>) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Request<Bytes>>>> = Arc::default();
        let (answer, log): (Arc<Answers>, _) = (Arc::new(answer), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let request = Request::from_parts(parts, body);
                        let response = answer(&request);
                        log.lock().unwrap().push(request);
                        Ok::<_, Infallible>(response)
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, seen }
    }

    fn client(&self) -> Client {
        client(self.address)
    }
}

pub(super) fn config_for(address: SocketAddr) -> CustomerIoConfig {
    CustomerIoConfig { endpoint: Some(format!("http://{address}").parse().unwrap()), ..config() }
}

fn client(address: SocketAddr) -> Client {
    Client::new(&config_for(address)).unwrap()
}

pub(super) fn answer(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::from(body)).unwrap()
}

pub(super) fn bodies(items: &[&'static str]) -> Vec<Bytes> {
    items.iter().map(|i| Bytes::from_static(i.as_bytes())).collect()
}

/// Accepts connections one after the other and hands each to `serve` with its number.
async fn raw<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(number, stream));
            number += 1;
        }
    });
    address
}

/// Reads one request with a body that ends in `]}`.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !text.ends_with(b"]}") {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => text.extend_from_slice(&buffer[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_batch_is_posted_with_its_exact_body_and_headers() {
    let server = Server::start(|_| answer(200, "{}\n")).await;
    let client = server.client();
    let reply = client.send(bodies(&["{\"a\":1}", "{\"b\":2.50}"]), 0).await;
    assert_eq!(reply, Reply::Items(vec![Verdict::Delivered; 2]));
    client.send(bodies(&["{}"]), 3).await;
    let seen = server.seen.lock().unwrap();
    let [first, retry] = seen.as_slice() else { panic!("{seen:?}") };
    assert_eq!((first.method(), first.uri().path()), (&Method::POST, "/api/v2/batch"));
    assert_eq!(first.body(), "{\"batch\":[{\"a\":1},{\"b\":2.50}]}");
    let header = |name: &str| first.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("authorization"), "Basic c2l0ZTprZXk=");
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("content-length"), first.body().len().to_string());
    assert!(header("user-agent").starts_with("rudder-customerio/"));
    assert!(!first.headers().contains_key("x-retry-count"));
    assert_eq!(retry.headers()["x-retry-count"], "3");
}

#[tokio::test]
async fn item_errors_are_read() {
    let server = Server::start(|_| {
        answer(207, r#"{"errors":[{"batch_index":1,"reason":"r","field":"f","message":"m"}]}"#)
    })
    .await;
    let refusal = Refusal {
        reason: Some("r".into()),
        field: Some("f".into()),
        message: Some("m".into()),
        status: Some(207),
    };
    assert_eq!(
        server.client().send(bodies(&["1", "2"]), 0).await,
        Reply::Items(vec![Verdict::Delivered, Verdict::Rejected(refusal)])
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(|_| answer(200, "{}")).await;
    let target = format!("http://{}/x", other.address);
    let server = Server::start(move |_| {
        Response::builder().status(308).header("location", &target).body(Full::default()).unwrap()
    })
    .await;
    let Reply::Hold(hold) = server.client().send(bodies(&["1"]), 0).await else { panic!() };
    assert_eq!(hold.code, "redirected");
    assert!(other.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_there_means_that_nothing_was_sent() {
    // Whoever holds the port and does not listen keeps others from doing so.
    let holder = tokio::net::TcpSocket::new_v4().unwrap();
    holder.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = holder.local_addr().unwrap();
    assert_eq!(
        client(address).send(bodies(&["1"]), 0).await,
        Reply::Retry { after: None, why: "network", unknown: false }
    );
}

#[tokio::test]
async fn a_name_that_does_not_exist_means_that_nothing_was_sent() {
    let config = CustomerIoConfig {
        endpoint: Some("https://track.customerio.invalid".parse().unwrap()),
        ..config()
    };
    let Reply::Retry { unknown: false, .. } =
        Client::new(&config).unwrap().send(bodies(&["1"]), 0).await
    else {
        panic!()
    };
}

#[tokio::test]
async fn a_connection_that_closes_after_the_request_leaves_it_unknown() {
    let address = raw(|_, mut stream| async move {
        read_request(&mut stream).await;
    })
    .await;
    assert_eq!(
        client(address).send(bodies(&["1"]), 0).await,
        Reply::Retry { after: None, why: "network", unknown: true }
    );
}

#[tokio::test]
async fn a_server_that_hangs_leaves_the_batch_unknown() {
    let was_sent = Arc::new(AtomicBool::new(false));
    let read = Arc::clone(&was_sent);
    let address = raw(move |_, mut stream| {
        let read = Arc::clone(&read);
        async move {
            read.store(read_request(&mut stream).await.ends_with("]}"), Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
    })
    .await;
    // Until there was time to send it.
    for timeout in [50, 1_000, 20_000].map(Duration::from_millis) {
        let config = CustomerIoConfig { timeout, ..config_for(address) };
        let reply = Client::new(&config).unwrap().send(bodies(&["1"]), 0).await;
        if was_sent.load(Ordering::SeqCst) {
            assert_eq!(reply, Reply::Retry { after: None, why: "timeout", unknown: true });
            return;
        }
    }
    panic!("nothing was sent");
}

#[tokio::test]
async fn an_answer_that_breaks_off_leaves_the_batch_unknown() {
    for broken in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"errors\":[",
        "HTTP/1.1 207 Multi-Status\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"err",
    ] {
        let address = raw(move |_, mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(broken.as_bytes()).await.unwrap();
        })
        .await;
        assert_eq!(
            client(address).send(bodies(&["1"]), 0).await,
            Reply::Retry { after: None, why: "unreadable", unknown: true }
        );
    }
}

#[tokio::test]
async fn what_is_no_http_is_unreadable() {
    let address = raw(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"SSH-2.0-OpenSSH\r\n\r\n").await.unwrap();
    })
    .await;
    assert_eq!(
        client(address).send(bodies(&["1"]), 0).await,
        Reply::Retry { after: None, why: "unreadable", unknown: true }
    );
}

#[tokio::test]
async fn a_used_connection_that_was_closed_is_replaced_at_once() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    let address = raw(|number, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        if number == 0 {
            // The second request meets the end of the connection.
            read_request(&mut stream).await;
            return;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let client = client(address);
    let delivered = Reply::Items(vec![Verdict::Delivered]);
    assert_eq!(client.send(bodies(&["1"]), 0).await, delivered);
    let reply = client.send(bodies(&["2"]), 0).await;
    assert_eq!(reply, Reply::Doubtful(Box::new(delivered)), "the first may have been applied");
}

#[tokio::test]
async fn an_answer_to_the_second_try_does_not_hide_that_the_first_was_sent() {
    for second in [
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n",
    ] {
        let address = raw(move |number, mut stream| async move {
            read_request(&mut stream).await;
            if number == 0 {
                // The second request meets the end of the connection.
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                read_request(&mut stream).await;
            } else {
                stream.write_all(second.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            }
        })
        .await;
        let client = client(address);
        assert_eq!(client.send(bodies(&["1"]), 0).await, Reply::Items(vec![Verdict::Delivered]));
        let reply = client.send(bodies(&["2"]), 0).await;
        let Reply::Doubtful(reply) = reply else { panic!("{second}: {reply:?}") };
        assert!(!matches!(*reply, Reply::Doubtful(_)), "{reply:?}");
    }
}

#[tokio::test]
async fn a_misdirected_request_is_tried_again_on_a_new_connection() {
    let address = raw(|number, mut stream| async move {
        while !read_request(&mut stream).await.is_empty() {
            let answer = match number {
                0 => "HTTP/1.1 421 Misdirected Request\r\ncontent-length: 0\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = client(address);
    assert_eq!(
        client.send(bodies(&["1"]), 0).await,
        Reply::Retry { after: None, why: "http_421", unknown: false }
    );
    let delivered = Reply::Items(vec![Verdict::Delivered]);
    assert_eq!(client.send(bodies(&["1"]), 1).await, delivered);
}

#[tokio::test]
async fn a_server_without_tls_is_held_or_tried_again_but_never_sent_to() {
    let address = raw(|_, mut stream| async move {
        let mut hello = [0; 64];
        let n = stream.read(&mut hello).await.unwrap();
        assert!(n == 0 || hello[0] == 22, "no TLS handshake");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    let config = CustomerIoConfig {
        endpoint: Some(format!("https://{address}").parse().unwrap()),
        ..config()
    };
    let Reply::Hold(hold) = Client::new(&config).unwrap().send(bodies(&["1"]), 0).await else {
        panic!()
    };
    assert_eq!(hold.code, "tls");
}

#[tokio::test]
async fn a_connection_that_takes_too_long_was_not_sent_to() {
    // The handshake never goes on.
    let address = raw(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let config = CustomerIoConfig {
        endpoint: Some(format!("https://{address}").parse().unwrap()),
        connect_timeout: Duration::from_millis(50),
        ..config()
    };
    assert_eq!(
        Client::new(&config).unwrap().send(bodies(&["1"]), 0).await,
        Reply::Retry { after: None, why: "connect_timeout", unknown: false }
    );
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let address = raw(|_, mut stream| async move {
        read_request(&mut stream).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while stream.write_all(&[b' '; 65_536]).await.is_ok() {}
    })
    .await;
    assert_eq!(
        client(address).send(bodies(&["1"]), 0).await,
        Reply::Items(vec![Verdict::Delivered])
    );
}

const ACCOUNT: &str = r#"{"url":"https://track.customer.io","region":"us","environment_id":3}"#;

#[tokio::test]
async fn the_account_is_read_with_the_credentials() {
    let server = Server::start(|_| answer(200, ACCOUNT)).await;
    let account = server.client().account().await.unwrap();
    assert_eq!((account.region.as_str(), account.environment_id), ("us", Some(3)));
    assert_eq!(account.url.as_deref(), Some("https://track.customer.io"));
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen[0].method(), Method::GET);
    assert_eq!(seen[0].uri().path(), "/api/v1/accounts/region");
    assert_eq!(seen[0].headers()["authorization"], "Basic c2l0ZTprZXk=");
}

#[tokio::test]
async fn a_probe_tells_why_data_must_not_be_sent() {
    for (status, body, code) in [
        (401, "", "unauthorized"),
        (400, "", "unauthorized"),
        (403, "", "forbidden"),
        (404, "", "protocol"),
        (301, "", "redirected"),
        (200, "<html>", "protocol"),
        (200, "{}", "protocol"),
        (500, "", "unreachable"),
        (503, "", "unreachable"),
        (429, "", "unreachable"),
    ] {
        let server = Server::start(move |_| answer(status, body)).await;
        assert_eq!(server.client().probe().await.unwrap_err().code, code, "{status} {body}");
    }
}

#[tokio::test]
async fn an_answer_about_the_account_that_breaks_off_accuses_nobody() {
    let address = raw(|_, mut stream| async move {
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{{\"re", ACCOUNT.len());
        stream.write_all(head.as_bytes()).await.unwrap();
    })
    .await;
    assert_eq!(client(address).probe().await.unwrap_err().code, "unreachable");
    // Nothing is sent before the workspace is known, and nobody has to mend anything.
    let pinned = CustomerIoConfig { environment_id: Some(3), ..config_for(address) };
    assert_eq!(
        Client::new(&pinned).unwrap().send(bodies(&["1"]), 0).await,
        Reply::Retry { after: None, why: "network", unknown: false }
    );
}

#[tokio::test]
async fn another_workspace_than_the_pinned_one_is_refused() {
    let server = Server::start(|_| answer(200, ACCOUNT)).await;
    for (pinned, good) in [(3, true), (4, false)] {
        let config =
            CustomerIoConfig { environment_id: Some(pinned), ..config_for(server.address) };
        let probe = Client::new(&config).unwrap().probe().await;
        assert_eq!(probe.is_ok(), good);
        if let Err(hold) = probe {
            assert_eq!(hold.code, "wrong_workspace");
            assert!(hold.message.contains("workspace 3"), "{}", hold.message);
        }
    }
}

#[test]
fn the_region_is_insisted_on_and_the_remedy_named() {
    let account = Account { region: "eu".into(), url: None, environment_id: None };
    assert!(account.check(Some(Region::Eu), None).is_ok());
    assert!(account.check(None, None).is_ok());
    let error = account.check(Some(Region::Us), None).unwrap_err();
    assert!(error.to_string().contains("`customerio.region: eu`"), "{error}");
    assert_eq!(error.into_hold().code, "wrong_region");
}

#[test]
fn endpoints_are_checked() {
    let with = |endpoint: &str, allow_insecure| {
        let endpoint = Some(endpoint.parse().unwrap());
        Client::new(&CustomerIoConfig { endpoint, allow_insecure, ..config() })
    };
    for good in [
        "https://proxy.example/customerio/",
        "http://127.0.0.1:8090",
        "http://[::1]:8090",
        "http://localhost:1",
    ] {
        assert!(with(good, false).is_ok(), "{good}");
    }
    assert!(with("http://proxy.example", true).is_ok());
    for bad in ["http://proxy.example", "ftp://proxy.example", "https://u:p@proxy.example"] {
        let wrong = with(bad, false).unwrap_err();
        assert!(wrong[0].message.contains("`customerio.endpoint`"), "{}", wrong[0]);
    }
    let client = with("https://proxy.example/customerio/", false).unwrap();
    assert_eq!(client.batch_uri, "https://proxy.example/customerio/api/v2/batch");
}

#[test]
fn the_regions_have_their_own_hosts() {
    for (region, host) in [(Region::Us, "track.customer.io"), (Region::Eu, "track-eu.customer.io")]
    {
        let client = Client::new(&CustomerIoConfig { region, ..config() }).unwrap();
        assert_eq!(client.batch_uri.host(), Some(host));
        assert_eq!(client.batch_uri.scheme_str(), Some("https"));
    }
}

#[test]
fn every_mistake_is_told_at_once_and_no_secret_is_shown() {
    let config = CustomerIoConfig {
        site_id: "se:cret".into(),
        extra_roots: vec!["/does/not/exist.pem".into()],
        endpoint: Some("ftp://x".parse().unwrap()),
        ..config()
    };
    let wrong = Client::new(&config).unwrap_err();
    assert_eq!(wrong.len(), 3);
    let text: String = wrong.iter().map(ToString::to_string).collect();
    assert!(!text.contains("cret"), "{text}");
    let client = Client::new(&super::super::tests::config()).unwrap();
    let shown = format!(
        "{client:?} {:?}",
        request(&client.current.get(), Method::GET, client.batch_uri.clone(), Bytes::new(), 0)
    );
    assert!(!shown.contains("c2l0ZTprZXk="), "{shown}");
}

#[test]
fn a_file_without_certificates_is_no_root() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "no certificate").unwrap();
    let extra_roots = vec![file.path().to_owned()];
    let wrong = Client::new(&CustomerIoConfig { extra_roots, ..config() }).unwrap_err();
    assert!(wrong[0].to_string().contains("customerio.extra_roots"), "{}", wrong[0]);
}
