//! What a sink is made of, for those that put it together themselves.

use std::sync::Arc;

use super::Rules;
use crate::buffer::Buffer;
use crate::config::CustomerIoConfig;
use crate::data_dir::DataDir;
use crate::delivery::{DeadLetters, Destination, Pace};

/// What a sink is made of; see [`CustomerIoSink::builder`](super::CustomerIoSink::builder) for the usual way to it.
#[derive(Debug)]
pub struct Parts {
    /// Filter and mapping to begin with.
    pub rules: Rules,
    /// Where mapped events wait.
    pub buffer: Arc<dyn Buffer>,
    /// The directory in which everything is stored; held until all tasks of the sink have ended.
    pub data_dir: Option<Arc<DataDir>>,
    /// Where they go.
    pub destination: Arc<dyn Destination>,
    /// How they go there.
    pub customerio: CustomerIoConfig,
    /// How far delivery looks ahead, and how it paces itself.
    pub pace: Pace,
    /// Where failed and rejected events go.
    pub dead_letters: Arc<DeadLetters>,
    /// Mapping threads; `None`: one per core.
    pub threads: Option<usize>,
    /// Bytes that batches may hold together before they are in the buffer.
    pub intake_bytes: usize,
}
