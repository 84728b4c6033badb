//! Reads and unzips request bodies within bounds: per body, per address, for all bodies together,
//! and in time.

mod room;

use std::io::Read as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::timeout;

use self::room::Room;
use super::answer::{Because, Refusal};

pub use self::room::Held;

/// What the bodies of all requests together may hold before the pipeline takes them, in bytes.
const ALL_BODIES: usize = 64 * 1024 * 1024;

/// What the bodies of one address may hold of that, in bytes.
const SHARE: usize = ALL_BODIES / 4;

/// A body must have arrived within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How much of a body that is too large is read away before the answer, in bytes, and for how long.
const REST: usize = 32 * 1024 * 1024;
const REST_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that are unzipped before other requests get their turn.
const UNZIP_STEP: usize = 64 * 1024;

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The bounds of bodies.
#[derive(Debug)]
pub struct Bodies {
    max_body: usize,
    room: Arc<Room>,
}

impl Bodies {
    /// Makes bounds for bodies of at most `max_body` bytes.
    pub fn new(max_body: u64) -> Self {
        let max_body = usize::try_from(max_body).unwrap_or(usize::MAX / 8);
        // One body, zipped and unzipped, always has room.
        let least = max_body.saturating_mul(2);
        Self { max_body, room: Room::new(ALL_BODIES.max(least), SHARE.max(least)) }
    }

    /// Reads a body from `address` and unzips it if its head says so.
    pub async fn read<B>(
        &self,
        headers: &HeaderMap,
        body: B,
        address: IpAddr,
    ) -> Result<(Bytes, Held), Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let gzip = match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes()) {
            None | Some(b"") => false,
            Some(coding) if coding.eq_ignore_ascii_case(b"identity") => false,
            Some(coding) if coding.eq_ignore_ascii_case(b"gzip") => true,
            Some(_) => return Err(Refusal::UnknownEncoding),
        };
        let mut held = Held::nothing(&self.room, address);
        let arrived = timeout(BODY_TIMEOUT, self.collect(body, &mut held));
        let bytes = arrived.await.map_err(|_| Refusal::Unreadable)??;
        if !gzip {
            return Ok((Bytes::from(bytes), held));
        }
        let mut held = Held::nothing(&self.room, address);
        let unzipped = self.unzip(&bytes, &mut held).await?;
        Ok((Bytes::from(unzipped), held))
    }

    async fn collect<B>(&self, mut body: B, held: &mut Held) -> Result<Vec<u8>, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut bytes = Vec::new();
        let mut too_large = body.size_hint().lower() > self.max_body as u64;
        while !too_large {
            let Some(frame) = body.frame().await else { return Ok(bytes) };
            let Ok(data) = frame.map_err(|_| Refusal::Unreadable)?.into_data() else { continue };
            match self.extend(&mut bytes, &data, held) {
                Err(Refusal::TooLarge) => too_large = true,
                extended => extended?,
            }
        }
        drop(bytes);
        let rest = pour_away(&mut body);
        // However it ends, the answer is the same.
        drop(timeout(REST_TIMEOUT, rest).await);
        Err(Refusal::TooLarge)
    }

    async fn unzip(&self, zipped: &[u8], held: &mut Held) -> Result<Vec<u8>, Refusal> {
        let mut decoder = MultiGzDecoder::new(zipped);
        let mut step = vec![0; UNZIP_STEP];
        let mut bytes = Vec::new();
        loop {
            let n = decoder.read(&mut step).map_err(|_| Refusal::BrokenEncoding)?;
            match step.get(..n) {
                None | Some([]) => return Ok(bytes),
                Some(data) => self.extend(&mut bytes, data, held)?,
            }
            tokio::task::yield_now().await;
        }
    }

    fn extend(&self, bytes: &mut Vec<u8>, data: &[u8], held: &mut Held) -> Result<(), Refusal> {
        if data.len() > self.max_body.saturating_sub(bytes.len()) {
            return Err(Refusal::TooLarge);
        }
        if !held.take(data.len()) {
            return Err(Refusal::Unavailable(Because::Overload, RETRY_AFTER));
        }
        bytes.extend_from_slice(data);
        Ok(())
    }
}

/// Reads on without keeping anything. A client that is still writing when the connection closes sees
/// a broken pipe instead of the answer, and would send the same body again and again.
async fn pour_away<B: Body<Data = Bytes> + Unpin>(body: &mut B) {
    let mut rest = REST;
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        match rest.checked_sub(read) {
            Some(left) => rest = left,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::{FutureExt as _, StreamExt as _};
    use http::HeaderValue;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn host(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    async fn read(bodies: &Bodies, coding: &'static str, body: &[u8]) -> Result<Bytes, Refusal> {
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
        let bodies = Bodies::new(1000);
        assert_eq!(read(&bodies, "-", b"abc").await.unwrap(), "abc");
        assert_eq!(read(&bodies, "identity", b"abc").await.unwrap(), "abc");
        assert_eq!(read(&bodies, "gzip", &gzip(b"abc")).await.unwrap(), "abc");
        let two = [gzip(b"abc"), gzip(b"def")].concat();
        assert_eq!(read(&bodies, "gzip", &two).await.unwrap(), "abcdef");
        for coding in ["br", "deflate", "zstd", "gzip, gzip"] {
            let refusal = read(&bodies, coding, b"abc").await.unwrap_err();
            assert_eq!(refusal, Refusal::UnknownEncoding, "{coding}");
        }
    }

    #[tokio::test]
    async fn broken_gzip_is_refused() {
        let bodies = Bodies::new(1000);
        let whole = gzip(b"abcdefgh");
        for broken in [&whole[..whole.len() - 3], &b"{}"[..], b"", &[&whole[..], b"x"].concat()] {
            assert_eq!(read(&bodies, "gzip", broken).await.unwrap_err(), Refusal::BrokenEncoding);
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_unreadable() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"{"))), Err(std::io::Error::other("x"))];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let refusal = Bodies::new(1000).read(&HeaderMap::new(), body, host(1)).await.unwrap_err();
        assert_eq!(refusal, Refusal::Unreadable);
    }

    #[tokio::test]
    async fn the_limit_holds_before_and_after_unzipping() {
        let bodies = Bodies::new(1_000_000);
        let whole = vec![b' '; 1_000_000];
        assert_eq!(read(&bodies, "-", &whole).await.unwrap().len(), 1_000_000);
        assert_eq!(read(&bodies, "gzip", &gzip(&whole)).await.unwrap().len(), 1_000_000);
        let more = vec![b' '; 1_000_001];
        assert_eq!(read(&bodies, "-", &more).await.unwrap_err(), Refusal::TooLarge);
        let bomb = gzip(&vec![0; 50_000_000]);
        assert!(bomb.len() < 1_000_000);
        assert_eq!(read(&bodies, "gzip", &bomb).await.unwrap_err(), Refusal::TooLarge);
    }

    #[tokio::test]
    async fn all_bodies_together_are_bounded_and_give_back_what_they_held() {
        let bodies = Bodies::new(SHARE as u64 / 2);
        let body = Bytes::from(vec![b' '; SHARE / 2]);
        let headers = HeaderMap::new();
        let mut held = Vec::new();
        for n in 0..8 {
            held.push(bodies.read(&headers, Full::new(body.clone()), host(n / 2)).await.unwrap());
        }
        let more = bodies.read(&headers, Full::new(Bytes::from_static(b"x")), host(9)).await;
        assert_eq!(more.unwrap_err(), Refusal::Unavailable(Because::Overload, RETRY_AFTER));
        held.clear();
        bodies.read(&headers, Full::new(body), host(9)).await.unwrap();
    }

    #[tokio::test]
    async fn clients_that_never_finish_leave_room_for_others() {
        let bodies = Bodies::new(4_096_000);
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
        assert_eq!(refused.unwrap_err(), Refusal::Unavailable(Because::Overload, RETRY_AFTER));
    }
}
