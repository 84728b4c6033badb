//! From a message to its events: decompress, then decode, within bounds.
//!
//! Takes milliseconds for each megabyte without a pause, so it belongs on a blocking thread.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::HeaderValue;
use zstd::zstd_safe;

use super::events::Events;
use super::message::Message;
use super::refusal::Refusal;
use crate::source::Incoming;
use crate::source::body::Held;

/// How far back a zstd stream may refer, as a power of two: the 8 MiB that every decoder should
/// take, and four times of what Vector uses.
const MAX_WINDOW_LOG: u32 = 23;

/// How a message is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    /// Reads `grpc-encoding`.
    pub fn of(header: Option<&HeaderValue>) -> Result<Self, Refusal> {
        match header.map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip),
            Some(b"zstd") => Ok(Self::Zstd),
            Some(_) => Err(Refusal::UnknownEncoding),
        }
    }
}

/// Returns the events of a message. Larger than `max` bytes neither the decompressed message may
/// be, nor, by half, what its events hold.
pub fn unpack(
    message: Message,
    encoding: Encoding,
    path: Option<&[String]>,
    max: usize,
    held: &mut Held,
) -> Result<Vec<Incoming>, Refusal> {
    let request = decompress(message, encoding, max, held)?;
    let mut events = Events::of(&request, path);
    let (mut counted, most) = (0, max.saturating_mul(2));
    while events.next()? {
        let bytes = events.bytes();
        if bytes > most {
            return Err(Refusal::TooLarge(max));
        }
        if !held.take(bytes.saturating_sub(counted)) {
            return Err(Refusal::NoRoom);
        }
        counted = bytes;
    }
    let elements = events.into_elements();
    held.give_back(request.len());
    Ok(elements)
}

fn decompress(
    message: Message,
    encoding: Encoding,
    max: usize,
    held: &mut Held,
) -> Result<Bytes, Refusal> {
    let packed = message.bytes;
    if !message.compressed {
        return Ok(packed);
    }
    let bytes = match encoding {
        Encoding::Identity => return Err(Refusal::NoEncoding),
        Encoding::Gzip => stream(MultiGzDecoder::new(&*packed), max, held)?,
        Encoding::Zstd => match zstd_safe::get_frame_content_size(&packed) {
            Ok(Some(length)) => known_length(&packed, length, max, held)?,
            _ => {
                let decoder = zstd::stream::read::Decoder::with_buffer(&*packed);
                let mut decoder = decoder.map_err(|_| Refusal::Internal)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(|_| Refusal::Internal)?;
                stream(decoder, max, held)?
            }
        },
    };
    held.give_back(packed.len());
    Ok(Bytes::from(bytes))
}

fn stream(mut decoder: impl Read, max: usize, held: &mut Held) -> Result<Vec<u8>, Refusal> {
    let (mut bytes, mut step) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let n = decoder.read(&mut step).map_err(|_| Refusal::BrokenEncoding)?;
        let Some(data @ [_, ..]) = step.get(..n) else { return Ok(bytes) };
        if data.len() > max.saturating_sub(bytes.len()) {
            return Err(Refusal::TooLarge(max));
        }
        if !held.take(data.len()) {
            return Err(Refusal::NoRoom);
        }
        bytes.extend_from_slice(data);
    }
}

/// Decompresses what says how long it will be, which needs no window.
fn known_length(
    packed: &[u8],
    length: u64,
    max: usize,
    held: &mut Held,
) -> Result<Vec<u8>, Refusal> {
    let length = usize::try_from(length).ok().filter(|length| *length <= max);
    let length = length.ok_or(Refusal::TooLarge(max))?;
    if !held.take(length) {
        return Err(Refusal::NoRoom);
    }
    zstd::bulk::decompress(packed, length).map_err(|_| Refusal::BrokenEncoding)
}
