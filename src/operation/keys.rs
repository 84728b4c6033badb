//! Conflict keys: which operations must not overtake each other.

use smallvec::SmallVec;

/// Hashes of each identity that an operation names, sorted and without repeats.
///
/// Stable across processes: `xxh3_64` of the identity's kind and value (an e-mail in lower case).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConflictKeys(pub SmallVec<[u64; 4]>);
