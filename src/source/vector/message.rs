//! Takes the one message of a call off its stream.
//!
//! A message is a byte that says whether it is compressed, its length in four bytes, and its bytes.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::source::body::{Held, pour};

/// Bytes before the message.
const PREFIX: usize = 5;

/// Bytes for which memory is there before they arrive.
const AHEAD: usize = 64 * 1024;

/// How long a message may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between two parts of it.
    pub silence: Duration,
    /// For all of it. The largest are 100 MiB and come from far away.
    pub whole: Duration,
}

/// What senders are granted.
pub const PATIENCE: Patience =
    Patience { silence: Duration::from_secs(30), whole: Duration::from_secs(300) };

/// How much of a refused message is read away before the answer, in bytes, and for how long.
const REST: (usize, Duration) = (512 * 1024 * 1024, Duration::from_secs(5));

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
pub async fn read<B>(
    mut body: B,
    max: usize,
    patience: Patience,
    held: &mut Held,
) -> Result<Message, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let whole = collect(&mut body, max, patience.silence, held);
    let read = timeout(patience.whole, whole).await.unwrap_or(Err(Refusal::Slow));
    if read.is_err() {
        held.give_back(usize::MAX);
    }
    if !matches!(read, Ok(_) | Err(Refusal::Slow | Refusal::Truncated)) {
        pour(&mut body, REST).await;
    }
    read
}

async fn collect<B>(
    body: &mut B,
    max: usize,
    silence: Duration,
    held: &mut Held,
) -> Result<Message, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (mut prefix, mut missing) = ([0; PREFIX], PREFIX);
    let mut bytes = Vec::new();
    let mut length = 0;
    loop {
        let frame = timeout(silence, body.frame()).await.map_err(|_| Refusal::Slow)?;
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
            bytes.reserve_exact(length.min(AHEAD));
        }
        if data.len() > length - bytes.len() {
            return Err(Refusal::BrokenFrame("there is more than one message"));
        }
        if !held.take(data.len()) {
            return Err(Refusal::NoRoom);
        }
        let full = bytes.len() + data.len() > bytes.capacity();
        if full {
            // Twice as much, as usual, but never more than it can become.
            let capacity = (bytes.capacity() * 2).clamp(bytes.len() + data.len(), length);
            bytes.reserve_exact(capacity - bytes.len());
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::IpAddr;
    use std::sync::Arc;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;
    use crate::source::body::Room;

    fn nothing(room: &Arc<Room>) -> Held {
        Held::nothing(room, IpAddr::from([127, 0, 0, 1]))
    }

    /// Reads parts; when `open`, more may come.
    async fn read_parts(parts: &[&[u8]], open: bool) -> Result<Message, Refusal> {
        let frames: Vec<_> = parts
            .iter()
            .map(|part| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        let rest = if open { stream::pending().boxed() } else { stream::empty().boxed() };
        let body = StreamBody::new(stream::iter(frames).chain(rest));
        let patience =
            Patience { silence: Duration::from_millis(20), whole: Duration::from_secs(60) };
        let mut held = nothing(&Room::new(1000, 1000));
        read(body, 500, patience, &mut held).await
    }

    #[tokio::test]
    async fn a_message_comes_in_parts_of_any_size() {
        let whole = [&[1, 0, 0, 0, 4][..], b"abcd"].concat();
        let message = Message { compressed: true, bytes: Bytes::from_static(b"abcd") };
        let single: Vec<_> = whole.chunks(1).collect();
        for parts in [vec![&whole[..]], single, vec![b"", &whole[..7], b"", &whole[7..]]] {
            assert_eq!(read_parts(&parts, false).await.as_ref(), Ok(&message), "{parts:?}");
        }
        let large = [&[0, 0, 0, 1, 0xf4][..], &[7; 500]].concat();
        let read = read_parts(&large.chunks(99).collect::<Vec<_>>(), false).await.unwrap();
        assert_eq!(read.bytes.len(), 500);
    }

    #[tokio::test]
    async fn who_falls_silent_is_cut() {
        for parts in [&[][..], &[&b"\0\0"[..]], &[&b"\0\0\0\0\x04abc"[..]]] {
            assert_eq!(read_parts(parts, true).await, Err(Refusal::Slow), "{parts:?}");
        }
        // Who never falls silent has an end as well.
        let patience = Patience { silence: Duration::MAX, whole: Duration::from_millis(20) };
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let mut held = nothing(&Room::new(1000, 1000));
        assert_eq!(read(body, 500, patience, &mut held).await, Err(Refusal::Slow));
    }

    #[tokio::test]
    async fn a_refused_message_holds_nothing() {
        let room = Room::new(1000, 1000);
        let mut held = nothing(&room);
        let parts = [b"\0\0\0\0\x04abcd".to_vec(), b"more".to_vec()];
        let frames = parts.map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(part))));
        let body = StreamBody::new(stream::iter(frames));
        let read = read(body, 500, PATIENCE, &mut held).await;
        assert!(matches!(read, Err(Refusal::BrokenFrame(_))), "{read:?}");
        assert!(nothing(&room).take(1000));
    }
}
