//! Reads and unpacks request bodies within bounds: per body, per address, for all bodies together,
//! and in time.

mod coding;
mod room;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::coding::Coding;

pub use self::coding::Codings;
pub use self::room::{Held, Room};

/// What the bodies of all requests together may hold before the pipeline takes them, in bytes.
const ALL_BODIES: usize = 64 * 1024 * 1024;

/// What the bodies of one address may hold of that, in bytes.
const SHARE: usize = ALL_BODIES / 4;

/// A body must have arrived within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How much of a body is read away before a refusal, in bytes, and for how long.
const REST: (usize, Duration) = (32 * 1024 * 1024, Duration::from_secs(5));

/// The same for the body of a stage of a pipeline that is too large: it sends the same again and again
/// until it reads the answer.
const PIPELINE_REST: (usize, Duration) = (1024 * 1024 * 1024, Duration::from_secs(30));

/// Bodies that are unpacked at once: each may need 8 MiB besides its bytes.
const MAX_UNPACKING: usize = 8;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// There is no room; try again after the duration.
    Full(Duration),
    /// It ended early.
    BrokenOff,
    /// It did not arrive in time.
    TooSlow,
    /// It is not what its `Content-Encoding` says.
    BrokenCoding,
    /// Its `Content-Encoding` is not one of those that are read.
    UnknownCoding,
    /// It is larger than the limit, as it came or after unpacking.
    TooLarge,
}

/// The bounds of bodies.
#[derive(Debug)]
pub struct Bodies {
    max_body: usize,
    codings: Codings,
    room: Arc<Room>,
    unpacking: Semaphore,
    patience: Duration,
}

impl Bodies {
    /// Makes bounds for bodies of at most `max_body` bytes.
    pub fn new(max_body: u64, codings: Codings) -> Self {
        let max_body = usize::try_from(max_body).unwrap_or(usize::MAX / 8);
        // One body, packed and unpacked, always has room.
        let least = max_body.saturating_mul(2);
        let room = Room::new(ALL_BODIES.max(least), SHARE.max(least));
        Self {
            max_body,
            codings,
            room,
            unpacking: Semaphore::new(MAX_UNPACKING),
            patience: BODY_TIMEOUT,
        }
    }

    /// Reads a body from `address` and unpacks it as its head says.
    pub async fn read<B>(
        &self,
        headers: &HeaderMap,
        mut body: B,
        address: IpAddr,
    ) -> Result<(Bytes, Held), Unread>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let Some(codings) = Coding::of(headers, self.codings) else {
            pour_away(&mut body).await;
            return Err(Unread::UnknownCoding);
        };
        let mut held = Held::nothing(&self.room, address);
        let arrived = timeout(self.patience, self.collect(body, &mut held));
        let mut bytes = arrived.await.map_err(|_| Unread::TooSlow)??;
        // The last one was applied last.
        for coding in codings.into_iter().rev() {
            // Never closed.
            let _turn = self.unpacking.acquire().await.map_err(|_| Unread::Full(RETRY_AFTER))?;
            let mut unpacked = Unpacked {
                bytes: Vec::new(),
                bodies: self,
                held: Held::nothing(&self.room, address),
            };
            coding.unpack(&bytes, &mut unpacked).await?;
            bytes = unpacked.bytes;
            held = unpacked.held;
        }
        Ok((Bytes::from(bytes), held))
    }

    async fn collect<B>(&self, mut body: B, held: &mut Held) -> Result<Vec<u8>, Unread>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut bytes = Vec::new();
        let mut too_large = body.size_hint().lower() > self.max_body as u64;
        while !too_large {
            let Some(frame) = body.frame().await else { return Ok(bytes) };
            let Ok(data) = frame.map_err(|_| Unread::BrokenOff)?.into_data() else { continue };
            match self.extend(&mut bytes, &data, held) {
                Err(Unread::TooLarge) => too_large = true,
                extended => extended?,
            }
        }
        drop(bytes);
        let rest = if self.codings == Codings::All { PIPELINE_REST } else { REST };
        pour(&mut body, rest).await;
        Err(Unread::TooLarge)
    }

    fn extend(&self, bytes: &mut Vec<u8>, data: &[u8], held: &mut Held) -> Result<(), Unread> {
        if data.len() > self.max_body.saturating_sub(bytes.len()) {
            return Err(Unread::TooLarge);
        }
        if !held.take(data.len()) {
            return Err(Unread::Full(RETRY_AFTER));
        }
        bytes.extend_from_slice(data);
        Ok(())
    }
}

/// What comes out of a body.
struct Unpacked<'b> {
    bytes: Vec<u8>,
    bodies: &'b Bodies,
    held: Held,
}

impl Unpacked<'_> {
    /// Takes the next piece, if it is within the bounds.
    fn push(&mut self, data: &[u8]) -> Result<(), Unread> {
        self.bodies.extend(&mut self.bytes, data, &mut self.held)
    }

    /// Makes a piece of this length, to be written to, if it is within the bounds.
    fn space(&mut self, length: usize) -> Result<&mut [u8], Unread> {
        if length > self.bodies.max_body.saturating_sub(self.bytes.len()) {
            return Err(Unread::TooLarge);
        }
        if !self.held.take(length) {
            return Err(Unread::Full(RETRY_AFTER));
        }
        let start = self.bytes.len();
        self.bytes.resize(start + length, 0);
        Ok(self.bytes.get_mut(start..).unwrap_or_default())
    }
}

/// Copies events out of a body of which they are the smaller part: the pipeline counts their own
/// length against its bound, and slices would hold the rest as well.
pub fn detach(events: &mut [&mut Bytes], body: &Bytes) {
    if events.iter().map(|event| event.len()).sum::<usize>() < body.len() / 2 {
        for event in events {
            **event = Bytes::copy_from_slice(event);
        }
    }
}

/// Reads on without keeping anything, for a bounded time and length. A client that is still writing
/// when the connection closes sees a broken pipe instead of the answer, and would send the same body
/// again and again.
pub async fn pour_away<B: Body<Data = Bytes> + Unpin>(body: &mut B) {
    pour(body, REST).await;
}

/// As [`pour_away`], with bounds of one's own.
pub async fn pour<B>(body: &mut B, (mut rest, time): (usize, Duration))
where
    B: Body<Data = Bytes> + Unpin,
{
    let pouring = async {
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, Bytes::len);
            match rest.checked_sub(read) {
                Some(left) => rest = left,
                None => return,
            }
        }
    };
    // However it ends, the answer is the same.
    drop(timeout(time, pouring).await);
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::{FutureExt as _, StreamExt as _};
    use http::HeaderValue;
    use http::header::CONTENT_ENCODING;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn host(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    async fn read(bodies: &Bodies, coding: &'static str, body: &[u8]) -> Result<Bytes, Unread> {
        let mut headers = HeaderMap::new();
        if coding != "-" {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        let body = Full::new(Bytes::copy_from_slice(body));
        bodies.read(&headers, body, host(1)).await.map(|(bytes, _)| bytes)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn bodies_are_read_as_they_are_or_unzipped() {
        let bodies = Bodies::new(1000, Codings::Gzip);
        assert_eq!(read(&bodies, "-", b"abc").await.unwrap(), "abc");
        assert_eq!(read(&bodies, "identity", b"abc").await.unwrap(), "abc");
        assert_eq!(read(&bodies, "gzip", &gzip(b"abc")).await.unwrap(), "abc");
        let two = [gzip(b"abc"), gzip(b"def")].concat();
        assert_eq!(read(&bodies, "gzip", &two).await.unwrap(), "abcdef");
        for coding in ["br", "deflate", "zstd", "gzip, gzip"] {
            let refusal = read(&bodies, coding, b"abc").await.unwrap_err();
            assert_eq!(refusal, Unread::UnknownCoding, "{coding}");
        }
    }

    #[tokio::test]
    async fn broken_gzip_is_refused() {
        let bodies = Bodies::new(1000, Codings::Gzip);
        let whole = gzip(b"abcdefgh");
        for broken in [&whole[..whole.len() - 3], &b"{}"[..], b"", &[&whole[..], b"x"].concat()] {
            assert_eq!(read(&bodies, "gzip", broken).await.unwrap_err(), Unread::BrokenCoding);
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_unreadable() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"{"))), Err(std::io::Error::other("x"))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let refusal = Bodies::new(1000, Codings::Gzip)
            .read(&HeaderMap::new(), body, host(1))
            .await
            .unwrap_err();
        assert_eq!(refusal, Unread::BrokenOff);
    }

    #[tokio::test]
    async fn the_limit_holds_before_and_after_unzipping() {
        let bodies = Bodies::new(1_000_000, Codings::Gzip);
        let whole = vec![b' '; 1_000_000];
        assert_eq!(read(&bodies, "-", &whole).await.unwrap().len(), 1_000_000);
        assert_eq!(read(&bodies, "gzip", &gzip(&whole)).await.unwrap().len(), 1_000_000);
        let more = vec![b' '; 1_000_001];
        assert_eq!(read(&bodies, "-", &more).await.unwrap_err(), Unread::TooLarge);
        let bomb = gzip(&vec![0; 50_000_000]);
        assert!(bomb.len() < 1_000_000);
        assert_eq!(read(&bodies, "gzip", &bomb).await.unwrap_err(), Unread::TooLarge);
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_give_back_what_they_held() {
        let bodies = Bodies::new(SHARE as u64 / 2, Codings::Gzip);
        let body = Bytes::from(vec![b' '; SHARE / 2]);
        let headers = HeaderMap::new();
        let mut held = Vec::new();
        for n in 0..8 {
            held.push(bodies.read(&headers, Full::new(body.clone()), host(n / 2)).await.unwrap());
        }
        let more = bodies.read(&headers, Full::new(Bytes::from_static(b"x")), host(9)).await;
        assert_eq!(more.unwrap_err(), Unread::Full(RETRY_AFTER));
        held.clear();
        bodies.read(&headers, Full::new(body), host(9)).await.unwrap();
    }

    #[tokio::test]
    async fn a_body_that_comes_by_drops_is_cut_and_gives_back_what_it_held() {
        let patience = Duration::from_millis(30);
        let bodies = Bodies { patience, ..Bodies::new(1000, Codings::Gzip) };
        let drops = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let drop = Frame::data(Bytes::from_static(b" "));
            Some((Ok::<_, std::io::Error>(drop), ()))
        });
        let body = StreamBody::new(Box::pin(drops));
        let refused = bodies.read(&HeaderMap::new(), body, host(1)).await.unwrap_err();
        assert_eq!(refused, Unread::TooSlow);
        assert!(Held::nothing(&bodies.room, host(1)).take(SHARE));
    }

    #[tokio::test]
    async fn clients_that_never_finish_leave_room_for_others() {
        let bodies = Bodies::new(4_096_000, Codings::Gzip);
        let part = Bytes::from(vec![b' '; 4_000_000]);
        let headers = HeaderMap::new();
        let slow = || {
            let part =
                futures_util::stream::iter([Ok::<_, std::io::Error>(Frame::data(part.clone()))]);
            StreamBody::new(part.chain(futures_util::stream::pending()))
        };
        let mut unfinished = Vec::new();
        for _ in 0..20 {
            let mut read = Box::pin(bodies.read(&headers, slow(), host(1)));
            // Those beyond the share are refused, the others wait for the rest.
            drop(read.as_mut().now_or_never());
            unfinished.push(read);
        }
        bodies.read(&headers, Full::new(part.clone()), host(2)).await.unwrap();
        let refused = bodies.read(&headers, Full::new(part.clone()), host(1)).await;
        assert_eq!(refused.unwrap_err(), Unread::Full(RETRY_AFTER));
    }

    #[test]
    fn a_small_event_does_not_hold_a_large_body() {
        for (padding, shared) in [(1, true), (1000, false)] {
            let event = r#"{"userId":"the only member of a small event"}"#;
            let body = format!(r#"{{"batch":[{event}],"more":"{}"}}"#, "x".repeat(padding));
            let body = Bytes::from(body.into_bytes());
            let start = 10;
            let mut events = [body.slice(start..start + event.len())];
            detach(&mut events.each_mut(), &body);
            assert_eq!(events, [event]);
            assert_eq!(body.is_unique(), !shared, "{padding}");
        }
    }
}
