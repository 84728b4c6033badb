use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Notify, mpsc};

use super::*;

/// Reads what is sent, and answers when it is told to.
#[derive(Default)]
struct Slow {
    answer: Notify,
    /// A request is there with its body.
    asked: Notify,
    /// A request ended without an answer.
    left: Arc<Notify>,
}

/// Tells of a request that is dropped before its answer.
struct Left(Option<Arc<Notify>>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(left) = &self.0 {
            left.notify_one();
        }
    }
}

impl Respond for Slow {
    const TYPE: &'static str = "slow";
    type Body = Full<Bytes>;

    async fn respond(&self, request: Request<Upload>, _: IpAddr) -> Response<Full<Bytes>> {
        let mut left = Left(Some(Arc::clone(&self.left)));
        // A body that breaks off is one as well.
        drop(request.into_body().collect().await);
        self.asked.notify_one();
        self.answer.notified().await;
        left.0 = None;
        Response::new(Full::from("done"))
    }
}

struct Running {
    address: SocketAddr,
    slow: Arc<Slow>,
    _stop: watch::Sender<bool>,
}

fn start(limits: Limits) -> Running {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (slow, (_stop, stopped)) = (Arc::new(Slow::default()), watch::channel(false));
    tokio::spawn(serve(listener, None, Arc::clone(&slow), stopped, limits));
    Running { address, slow, _stop }
}

/// Bounds of a test: this many connections.
fn places(most: usize) -> Limits {
    Limits { places: Box::leak(Box::new(Places::new(most))), ..Limits::default() }
}

impl Running {
    async fn connect(&self, beginning: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        stream
    }

    /// Begins a request that will be answered later.
    async fn ask(&self) -> TcpStream {
        let stream = self.connect(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        self.slow.asked.notified().await;
        stream
    }
}

/// Reads until the end, in peace or not.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes).await);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn who_speaks_by_drops_is_cut_wherever_it_began() {
    let limits = Limits { head: Duration::from_millis(30), ..Limits::default() };
    let running = start(limits);
    for beginning in ["", "POST / HTTP/1.1\r\nHost: x\r\nX: ", "PRI * HTTP/2.0\r"] {
        let (reader, mut writer) = running.connect(beginning.as_bytes()).await.into_split();
        let drops = tokio::spawn(async move {
            while writer.write_all(b"y").await.is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
        });
        let mut reader = reader;
        drop(reader.read_to_end(&mut Vec::new()).await);
        drop(reader);
        drops.await.unwrap();
    }
}

#[tokio::test]
async fn the_silent_make_place_for_who_speaks_and_requests_in_work_are_answered() {
    let running = start(places(4));
    let busy = running.ask().await;
    let mut silent = Vec::new();
    for n in 0..12 {
        silent
            .push(running.connect([&b""[..], b"GET / HT", b"PRI * HTTP/2.0\r\n\r\n"][n % 3]).await);
    }
    let good = running.ask().await;
    running.slow.answer.notify_one();
    assert!(rest(busy).await.ends_with("done"));
    running.slow.answer.notify_one();
    assert!(rest(good).await.ends_with("done"));
    // Of the silent the first ones had to go.
    for first in silent.drain(..9) {
        assert_eq!(rest(first).await, "");
    }
}

#[tokio::test]
async fn bodies_that_never_end_make_place_for_whole_requests() {
    let running = start(places(4));
    let begun = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{";
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(running.connect(begun).await);
    }
    let good = running.ask().await;
    running.slow.answer.notify_one();
    assert!(rest(good).await.ends_with("done"));
    for first in slow.drain(..5) {
        assert_eq!(rest(first).await, "");
    }
}

#[tokio::test]
async fn an_answer_that_is_ready_leaves_before_its_connection_makes_place() {
    for _ in 0..20 {
        let limits = places(1);
        let running = start(limits);
        let stream = TokioIo::new(TcpStream::connect(running.address).await.unwrap());
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://localhost/").body(Empty::<Bytes>::new()).unwrap();
        let answer = tokio::spawn(client.send_request(request));
        running.slow.asked.notified().await;
        let go = Arc::new(Notify::new());
        let gone = Arc::clone(&go);
        tokio::spawn(async move {
            gone.notified().await;
            limits.places.dismiss();
        });
        tokio::task::yield_now().await;
        // The request is done, then its connection is dismissed, then that sends.
        running.slow.answer.notify_one();
        go.notify_one();
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
}

/// Answers at once, with a body that comes when the test sends it.
struct Chunked(std::sync::Mutex<Option<mpsc::Receiver<Bytes>>>);

/// A body of what is sent.
struct Sent(mpsc::Receiver<Bytes>);

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|sent| sent.map(|sent| Ok(Frame::data(sent))))
    }
}

impl Respond for Chunked {
    const TYPE: &'static str = "chunked";
    type Body = Sent;

    async fn respond(&self, _: Request<Upload>, _: IpAddr) -> Response<Sent> {
        Response::new(Sent(self.0.lock().unwrap().take().unwrap()))
    }
}

#[tokio::test]
async fn an_answer_of_which_a_part_is_handed_over_is_sent_whole_unless_that_takes_too_long() {
    for (patience, whole) in [(Duration::MAX, true), (Duration::ZERO, false)] {
        let limits = Limits { answer: patience, ..places(1) };
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (send, sent) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(false);
        let chunked = Arc::new(Chunked(Some(sent).into()));
        tokio::spawn(serve(listener, None, chunked, stopped, limits));
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://localhost/").body(Empty::<Bytes>::new()).unwrap();
        let answer = client.send_request(request).await.unwrap();
        // The request is over: another client takes its place.
        let newcomer = TcpStream::connect(address).await.unwrap();
        if whole {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            send.send(Bytes::from_static(b"done")).await.unwrap();
        } else {
            send.closed().await;
        }
        drop(send);
        assert_eq!(answer.into_body().collect().await.is_ok(), whole);
        drop(newcomer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_taken_while_its_connection_makes_place_is_answered() {
    for n in 0..300 {
        let limits = places(1);
        let running = start(limits);
        let slow = Arc::clone(&running.slow);
        let taken = tokio::spawn(async move {
            slow.asked.notified().await;
            slow.answer.notify_one();
        });
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let stream = running.connect(request).await;
        for _ in 0..n % 30 {
            tokio::task::yield_now().await;
        }
        limits.places.dismiss();
        let answered = rest(stream).await.ends_with("done");
        taken.abort();
        assert_eq!(taken.await.is_ok(), answered);
    }
}

#[tokio::test]
async fn with_all_places_in_work_a_further_one_waits_for_the_end_of_one() {
    let running = start(places(2));
    let busy = [running.ask().await, running.ask().await];
    let waiting = running.connect(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let asked = running.slow.asked.notified();
    assert!(timeout(Duration::from_millis(30), asked).await.is_err(), "there is no place");
    for stream in busy.into_iter().chain([waiting]) {
        running.slow.answer.notify_one();
        assert!(rest(stream).await.ends_with("done"));
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_is_answered_or_gone_as_its_source_says() {
    for half_close in [true, false] {
        let running = start(Limits { half_close, ..Limits::default() });
        let mut stream = running.ask().await;
        stream.shutdown().await.unwrap();
        if !half_close {
            running.slow.left.notified().await;
        }
        running.slow.answer.notify_one();
        assert_eq!(rest(stream).await.ends_with("done"), half_close);
    }
}
