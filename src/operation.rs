//! Customer.io Track API v2 operations: grammar, limits, conflict keys, event id.

pub mod event_id;
pub mod grammar;
pub mod keys;
pub mod v1;

use bytes::Bytes;
use smallvec::SmallVec;
use vrl::value::Value;

use crate::event::identity::IdInput;
use crate::outcome::Reason;

pub use keys::ConflictKeys;

/// Largest operation that Customer.io takes, in bytes of compact JSON.
pub const MAX_OPERATION_BYTES: usize = 32_768;

/// What an operation does, as far as delivery has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Anything that may share a batch with earlier operations of its keys.
    Ordinary,
    /// Merges two people: waits for both and for `merge_settle`.
    Merge,
    /// Deletes or suppresses (or lifts a suppression): never shares a batch with its keys.
    Barrier,
}

/// One checked operation, serialised once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Hashes of every identity that the operation names.
    pub keys: ConflictKeys,
    /// How it is ordered against others.
    pub effect: Effect,
    /// The JSON that is stored and sent.
    pub body: Bytes,
}

/// Operations of one event; nearly always one.
pub type Operations = SmallVec<[Operation; 1]>;

/// Checks what a script returned, adds event ids, and serialises.
///
/// `script` names the file in messages. An empty array gives no operation (the caller drops the
/// event). `buffer` is scratch space that keeps its capacity.
///
/// # Errors
///
/// `invalid_operation`, `operation_too_large`, or `bad_event_id`, with a text that names script
/// and member.
pub fn prepare(
    root: Value,
    script: &str,
    id_input: &IdInput,
    buffer: &mut Vec<u8>,
) -> Result<Operations, Reason> {
    let _ = (root, script, id_input, buffer);
    todo!()
}
