//! How sources hand batches in, apart from who takes them.

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Batch, Intake, Refused, Summary};
use crate::config::Ack;

/// The end of a batch, as far as its source waits for it.
pub type Acknowledged = BoxFuture<'static, Result<Summary, Refused>>;

/// Takes batches. [`Intake`] is the one of the pipeline.
pub trait Submit: Clone + Send + Sync + 'static {
    /// Submits a batch, waiting at most `wait` for room in memory.
    ///
    /// What it returns resolves when the events are as far as `ack` says.
    fn submit(
        &self,
        batch: Batch,
        wait: Duration,
        ack: Ack,
    ) -> impl Future<Output = Result<Acknowledged, Refused>> + Send;
}

impl Submit for Intake {
    async fn submit(
        &self,
        batch: Batch,
        wait: Duration,
        ack: Ack,
    ) -> Result<Acknowledged, Refused> {
        let mut receipt = Intake::submit(self, batch, wait).await?;
        Ok(match ack {
            Ack::Buffered => async move { receipt.buffered().await }.boxed(),
            Ack::Delivered => receipt.settled().boxed(),
        })
    }
}
