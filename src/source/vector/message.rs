//! Takes the one message of a call off its stream.
//!
//! A message is a byte that says whether it is compressed, its length in four bytes, and its bytes.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::timeout;

use super::refusal::Refusal;
use super::room::Held;

/// Bytes before the message.
const PREFIX: usize = 5;

/// How long a sender waits for room in the connection and for its own source, at most.
const SILENCE: Duration = Duration::from_secs(30);

/// A message must have arrived within this time.
const WHOLE: Duration = Duration::from_secs(300);

/// How much of a refused message is read away before the answer, in bytes, and for how long.
const REST: usize = 512 * 1024 * 1024;
const REST_TIMEOUT: Duration = Duration::from_secs(5);

/// A message as it was sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub compressed: bool,
    pub bytes: Bytes,
}

/// Reads a message of at most `max` bytes.
///
/// # Errors
///
/// A refusal, after the rest of the stream was read away: a sender that is still writing may miss
/// the answer.
pub async fn read<B>(mut body: B, max: usize, held: &mut Held) -> Result<Message, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let read = timeout(WHOLE, collect(&mut body, max, held)).await.unwrap_or(Err(Refusal::Slow));
    if !matches!(read, Ok(_) | Err(Refusal::Slow | Refusal::Truncated)) {
        // However it ends, the answer is the same.
        drop(timeout(REST_TIMEOUT, pour_away(&mut body)).await);
    }
    read
}

async fn collect<B>(body: &mut B, max: usize, held: &mut Held) -> Result<Message, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (mut prefix, mut missing) = ([0; PREFIX], PREFIX);
    let mut bytes = Vec::new();
    let mut length = 0;
    loop {
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| Refusal::Slow)?;
        let Some(frame) = frame else { break };
        let Ok(mut data) = frame.map_err(|_| Refusal::Truncated)?.into_data() else { continue };
        if missing > 0 {
            let n = missing.min(data.len());
            let part = prefix.get_mut(PREFIX - missing..).and_then(|open| open.get_mut(..n));
            data.copy_to_slice(part.unwrap_or_default());
            missing -= n;
            if missing > 0 {
                continue;
            }
            length = length_of(prefix, max)?;
            bytes.reserve_exact(length.min(1024 * 1024));
        }
        if data.len() > length - bytes.len() {
            return Err(Refusal::BrokenFrame("there is more than one message"));
        }
        if !held.take(data.len()) {
            return Err(Refusal::NoRoom);
        }
        bytes.extend_from_slice(&data);
    }
    if missing > 0 || bytes.len() < length {
        return Err(Refusal::Truncated);
    }
    Ok(Message { compressed: prefix[0] == 1, bytes: Bytes::from(bytes) })
}

fn length_of([flag, length @ ..]: [u8; PREFIX], max: usize) -> Result<usize, Refusal> {
    if flag > 1 {
        return Err(Refusal::BrokenFrame("its first byte is neither 0 nor 1"));
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > max { Err(Refusal::TooLarge(max)) } else { Ok(length) }
}

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
