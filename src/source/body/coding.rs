//! Content codings of bodies.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;

use super::{Unpacked, Unread};

/// Bytes that are unpacked before other requests get their turn.
const STEP: usize = 64 * 1024;

/// Codings of one body, one inside of the other.
const MAX_CODINGS: usize = 3;

/// Largest window of zstd, as a power of two: what RFC 9659 lets senders use over HTTP.
const ZSTD_WINDOW: u32 = 23;

/// A block of snappy becomes at most this many times larger: a copy of 3 bytes stands for 64.
const SNAPPY_RATIO: usize = 22;

/// Which codings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codings {
    /// gzip alone, as RudderStack's gateway does.
    Gzip,
    /// gzip, zstd, deflate, and snappy; also one inside of the other.
    All,
}

/// One content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Zstd,
    /// Zlib, or what some senders send instead: deflate without its head.
    Deflate,
    /// One block without framing, as Vector sends it.
    Snappy,
}

impl Coding {
    /// Reads the codings of a body in the order in which they were applied; `None` if one is not read.
    pub(super) fn of(headers: &HeaderMap, known: Codings) -> Option<Vec<Self>> {
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            for name in value.as_bytes().split(|byte| *byte == b',') {
                let name = name.trim_ascii();
                let is = |coding: &str| name.eq_ignore_ascii_case(coding.as_bytes());
                if name.is_empty() || is("identity") {
                    continue;
                }
                codings.push(match known {
                    _ if is("gzip") || is("x-gzip") => Self::Gzip,
                    Codings::All if is("zstd") => Self::Zstd,
                    Codings::All if is("deflate") => Self::Deflate,
                    Codings::All if is("snappy") => Self::Snappy,
                    _ => return None,
                });
            }
        }
        let most = if known == Codings::Gzip { 1 } else { MAX_CODINGS };
        (codings.len() <= most).then_some(codings)
    }

    /// Unpacks a whole body.
    pub(super) async fn unpack(self, packed: &[u8], to: &mut Unpacked<'_>) -> Result<(), Unread> {
        match self {
            Self::Gzip => read_all(MultiGzDecoder::new(packed), to).await,
            Self::Zstd => {
                // An empty body is no frame.
                if packed.is_empty() {
                    return Err(Unread::BrokenCoding);
                }
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)
                    .map_err(|_| Unread::BrokenCoding)?;
                decoder.window_log_max(ZSTD_WINDOW).map_err(|_| Unread::BrokenCoding)?;
                read_all(decoder, to).await
            }
            Self::Deflate => inflate(packed, to).await,
            Self::Snappy => {
                let length = snap::raw::decompress_len(packed).map_err(|_| Unread::BrokenCoding)?;
                if length / SNAPPY_RATIO > packed.len() {
                    return Err(Unread::BrokenCoding);
                }
                let space = to.space(length)?;
                match snap::raw::Decoder::new().decompress(packed, space) {
                    Ok(written) if written == length => Ok(()),
                    _ => Err(Unread::BrokenCoding),
                }
            }
        }
    }
}

async fn read_all(mut decoder: impl Read, to: &mut Unpacked<'_>) -> Result<(), Unread> {
    let mut step = vec![0; STEP];
    loop {
        let n = decoder.read(&mut step).map_err(|_| Unread::BrokenCoding)?;
        match step.get(..n) {
            None | Some([]) => return Ok(()),
            Some(data) => to.push(data)?,
        }
        tokio::task::yield_now().await;
    }
}

/// Unpacks one stream, which must end where the bytes do. The readers of `flate2` take one that breaks
/// off for its end.
async fn inflate(packed: &[u8], to: &mut Unpacked<'_>) -> Result<(), Unread> {
    let mut decoder = Decompress::new(is_zlib(packed));
    let mut step = vec![0; STEP];
    let (mut rest, mut read, mut written) = (packed, 0, 0);
    loop {
        let status = decoder.decompress(rest, &mut step, FlushDecompress::None);
        let status = status.map_err(|_| Unread::BrokenCoding)?;
        let (in_, out) = (decoder.total_in(), decoder.total_out());
        let (taken, made) = ((in_ - read) as usize, (out - written) as usize);
        (read, written) = (in_, out);
        rest = rest.get(taken..).unwrap_or_default();
        to.push(step.get(..made).unwrap_or_default())?;
        match status {
            Status::StreamEnd if rest.is_empty() => return Ok(()),
            Status::StreamEnd => return Err(Unread::BrokenCoding),
            _ if taken == 0 && made == 0 => return Err(Unread::BrokenCoding),
            _ => tokio::task::yield_now().await,
        }
    }
}

/// Tells whether bytes begin with the head of zlib (RFC 1950).
fn is_zlib(packed: &[u8]) -> bool {
    match packed {
        [method, flags, ..] => {
            method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use bytes::Bytes;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use http_body_util::Full;

    use super::super::Bodies;
    use super::*;

    const LIMIT: usize = 1_000_000;

    async fn read(codings: &str, body: Vec<u8>) -> Result<Bytes, Unread> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_str(codings).unwrap());
        let bodies = Bodies::new(LIMIT as u64, Codings::All);
        let body = Full::new(Bytes::from(body));
        bodies.read(&headers, body, [10, 0, 0, 1].into()).await.map(|(bytes, _)| bytes)
    }

    fn pack(coding: &str, data: &[u8]) -> Vec<u8> {
        let level = Compression::fast();
        match coding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            "deflate" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            "zstd" => zstd::encode_all(data, 1).unwrap(),
            "snappy" => snap::raw::Encoder::new().compress_vec(data).unwrap(),
            _ => data.to_vec(),
        }
    }

    const ALL: [&str; 4] = ["gzip", "deflate", "zstd", "snappy"];

    #[tokio::test]
    async fn every_coding_gives_the_bytes_that_were_packed() {
        let data: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        for coding in ALL.into_iter().chain(["identity", "GZIP", "", "x-gzip"]) {
            let packed = pack(coding.trim_start_matches("x-").to_lowercase().as_str(), &data);
            assert_eq!(read(coding, packed).await.unwrap(), data, "{coding}");
        }
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(&data).unwrap();
        assert_eq!(read("deflate", raw.finish().unwrap()).await.unwrap(), data);
        let twice = pack("zstd", &pack("gzip", &data));
        assert_eq!(read("gzip, zstd", twice).await.unwrap(), data);
        let frames = [pack("zstd", b"abc"), pack("zstd", b"def")].concat();
        assert_eq!(read("zstd", frames).await.unwrap(), "abcdef");
    }

    #[tokio::test]
    async fn a_part_of_a_packed_body_and_one_with_something_behind_it_are_broken() {
        for coding in ALL {
            let whole = pack(coding, &b"0123456789 abcdefgh ".repeat(30));
            for end in 0..whole.len() {
                let end = read(coding, whole[..end].to_vec()).await;
                assert_eq!(end, Err(Unread::BrokenCoding), "{coding}");
            }
            let more = read(coding, [&whole[..], b"x"].concat()).await;
            assert_eq!(more, Err(Unread::BrokenCoding), "{coding}");
            assert_eq!(read(coding, b"{}".to_vec()).await, Err(Unread::BrokenCoding), "{coding}");
        }
    }

    #[tokio::test]
    async fn the_limit_is_one_of_unpacked_bytes_and_holds_inside_of_another_coding() {
        for coding in ALL {
            let most = read(coding, pack(coding, &vec![b' '; LIMIT])).await;
            assert_eq!(most.map(|bytes| bytes.len()), Ok(LIMIT), "{coding}");
            let bomb = read(coding, pack(coding, &vec![b' '; LIMIT + 1])).await;
            assert_eq!(bomb, Err(Unread::TooLarge), "{coding}");
        }
        let bomb = pack("zstd", &pack("gzip", &vec![0; 100 * LIMIT]));
        assert!(bomb.len() < 10_000);
        assert_eq!(read("gzip, zstd", bomb).await, Err(Unread::TooLarge));
    }

    #[tokio::test]
    async fn what_claims_too_much_is_refused_before_anything_is_made_for_it() {
        // Blocks of snappy begin with the length of what they hold.
        assert_eq!(
            read("snappy", vec![0xff, 0xff, 0xff, 0xff, 0x0f]).await,
            Err(Unread::BrokenCoding)
        );
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(ZSTD_WINDOW + 1).unwrap();
        encoder.write_all(b"x").unwrap();
        encoder.flush().unwrap();
        encoder.write_all(&[b'x'; 100_000]).unwrap();
        assert_eq!(read("zstd", encoder.finish().unwrap()).await, Err(Unread::BrokenCoding));
    }

    #[tokio::test]
    async fn other_codings_are_unknown() {
        for coding in ["br", "gzip, br", "gzip,gzip,gzip,gzip", "x-snappy-framed"] {
            assert_eq!(read(coding, Vec::new()).await, Err(Unread::UnknownCoding), "{coding}");
        }
    }
}
