//! Why the database did not do what it was asked to, whoever asks: redb's many errors, and its panics,
//! as few kinds that a caller can act upon.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{DatabaseError, StorageError};

use super::row::Damage;
use crate::telemetry::panics;

/// Why the database did not do what it was asked to.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another process, or another buffer of this one, holds it.
    Locked,
    /// A later version wrote it.
    Newer(u32),
    /// It cannot be made sense of.
    Corrupt(String),
    /// The disk is full.
    Full(String),
    /// Anything else that reading or writing it ended with.
    Io(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("another process holds the buffer"),
            Self::Newer(format) => {
                write!(f, "the buffer has the format {format} of a later version")
            }
            Self::Corrupt(text) => write!(f, "the buffer is damaged: {text}"),
            Self::Full(text) | Self::Io(text) => f.write_str(text),
        }
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        use std::io::ErrorKind;
        match error {
            redb::Error::Io(error) => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                    Self::Full(format!("the disk is full: {error}"))
                }
                ErrorKind::InvalidData => Self::Corrupt(error.to_string()),
                _ => Self::Io(error.to_string()),
            },
            redb::Error::DatabaseAlreadyOpen => Self::Locked,
            redb::Error::Corrupted(text) => Self::Corrupt(text),
            redb::Error::UpgradeRequired(format) => {
                Self::Corrupt(format!("it is in the old file format {format} of redb"))
            }
            redb::Error::TableTypeMismatch { .. } | redb::Error::TableIsMultimap(_) => {
                Self::Corrupt("its tables are not ours".to_owned())
            }
            error => Self::Io(error.to_string()),
        }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}
from_redb!(
    StorageError,
    DatabaseError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::CompactionError
);

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Self {
        Self::Corrupt(damage.to_string())
    }
}

/// redb answers some damage with a panic; it is a failure like others here.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    panics::expected(|| catch_unwind(AssertUnwindSafe(work)))
        .unwrap_or_else(|_| Err(Failure::Corrupt("reading its pages failed".to_owned())))
}
