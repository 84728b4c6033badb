//! Bodies: read no further than is needed, written whole, slowly, or not to the end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};

use super::socket::{Active, Control};
use crate::sandbox::engine::MAX_READ_BYTES;

/// The body of an answer.
pub(super) type WireBody = UnsyncBoxBody<Bytes, Infallible>;

/// Time for the first half of a body to leave before the connection is reset.
const FLUSH: Duration = Duration::from_millis(20);

/// Reads a body up to the sandbox's own limit. What is beyond is left unread; the size that was
/// read is over every limit of the API then.
pub(super) async fn read(mut incoming: Incoming) -> Result<Bytes, hyper::Error> {
    let mut all = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = MAX_READ_BYTES.saturating_sub(all.len());
        all.extend_from_slice(data.get(..room).unwrap_or(&data));
        if all.len() >= MAX_READ_BYTES {
            break;
        }
    }
    Ok(all.freeze())
}

pub(super) fn whole(bytes: Bytes) -> WireBody {
    Full::new(bytes).boxed_unsync()
}

/// One byte at a time; the request stays active meanwhile.
pub(super) fn slow(bytes: Bytes, pause: Duration, active: Active) -> WireBody {
    let stream = stream::unfold((bytes, active), move |(mut rest, active)| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let first = rest.split_to(1);
        Some((Ok(Frame::data(first)), (rest, active)))
    });
    StreamBody::new(stream).boxed_unsync()
}

/// The first half, then a reset of the connection.
pub(super) fn cut(mut bytes: Bytes, control: Arc<Control>) -> WireBody {
    let half = bytes.split_to(bytes.len() / 2);
    let stream = stream::unfold(Some(half), move |half| {
        let control = Arc::clone(&control);
        async move {
            if let Some(half) = half {
                return Some((Ok(Frame::data(half)), None));
            }
            tokio::time::sleep(FLUSH).await;
            control.reset();
            std::future::pending().await
        }
    });
    StreamBody::new(stream).boxed_unsync()
}
