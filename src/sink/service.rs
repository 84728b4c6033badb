//! The sink as a service of `tower`.

use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower_service::Service;

use super::SinkHandle;
use crate::source::{EventBatch, Receipt, Refused};

/// Takes batches as [`SinkHandle::submit`] does.
///
/// **Readiness.** Not ready while the bytes in memory are used up ([`Builder::intake_bytes`]), or
/// while somebody waits for them already; an error once the sink is closed. A handle that was told
/// to be ready and is not called keeps no room from others. Each may be called once, even if
/// others were quicker: so at most one batch per ready handle is in memory beyond the bound.
///
/// **Order.** After readiness a batch enters with the call, not when its future is polled. The
/// future is there at once, and dropping it loses nothing. Without readiness the call is a
/// [`SinkHandle::submit`].
///
/// **Response.** The receipt, when the batch is in memory. For an answer when the events are safe,
/// or have ended, put the receipt's own wait behind: with `tower`,
/// `ServiceExt::and_then(handle, |receipt: Receipt| receipt.settled())`.
///
/// **Error.** [`Refused::Closed`]; the batch was not taken.
///
/// ```
/// use std::future::poll_fn;
///
/// use rudder_customerio::sink::{EventBatch, Refused, SinkHandle};
/// use tower_service::Service;
///
/// # async fn example(handle: SinkHandle) -> Result<(), Refused> {
/// let mut service = handle;
/// poll_fn(|cx| service.poll_ready(cx)).await?;
/// let event = r#"{"type":"track","userId":"u-1","event":"Signed Up"}"#;
/// let mut receipt = service.call(EventBatch::from(event)).await?;
/// receipt.buffered().await?;
/// # Ok(()) }
/// ```
///
/// [`Builder::intake_bytes`]: super::Builder::intake_bytes
impl Service<EventBatch> for SinkHandle {
    type Response = Receipt;
    type Error = Refused;
    type Future = BoxFuture<'static, Result<Receipt, Refused>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        self.shared.intake.poll_room(&mut self.room, cx)
    }

    fn call(&mut self, batch: EventBatch) -> Self::Future {
        if self.room.take_turn() {
            return std::future::ready(self.submit_now(batch)).boxed();
        }
        let handle = self.clone();
        async move { handle.submit(batch).await }.boxed()
    }
}

#[cfg(test)]
mod tests;
