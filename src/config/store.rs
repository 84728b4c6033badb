//! `buffer` and `dead_letters`: what is kept, how much of it, and what happens when it is full.

use std::path::PathBuf;
use std::time::Duration;

use super::context::Context;
use super::declare::{Choice, choice, section};
use super::form::{Count, FilePath, Nullable, Period, Size};
use super::tree::Node;
use crate::diagnostic::Diagnostic;

section! {
    /// Where mapped events wait for Customer.io.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BufferConfig {
        /// What happens at the bound.
        when_full: WhenFull as Choice = "wait",
        /// What a buffer on disk does with a database or a row of events that it cannot read.
        on_corruption: OnCorruption as Choice = "stop",
        /// How many operations delivery looks at ahead of those that it sends. A higher number helps when
        /// few people have many events.
        read_ahead: usize as Count<1, 1_000_000> = "20000",
    }
    besides {
        /// Where events wait.
        r#type: BufferKind as Choice = "disk",
        /// Bound of what waits, in bytes. Null: 8 GiB on disk, 512 MiB in memory. A higher one bridges a
        /// longer outage and takes that much disk, or memory.
        max_size: Option<u64> as Nullable<Size<1_048_576, 1_125_899_906_842_624>> = "null",
    }
    derived {
        /// Where events wait.
        ///
        /// Default: `disk`.
        kind: BufferKind = r#type,
        /// Bound of what waits, in bytes.
        ///
        /// Default: 8 GiB on disk, 512 MiB in memory.
        max_size: u64 = max_size.unwrap_or(r#type.default_size()),
    }
    checked by buffer
}

choice! {
    /// Where events wait for delivery.
    pub enum BufferKind {
        /// In the folder `buffer` of `data_dir`: what was acknowledged survives crash and restart.
        Disk = "disk",
        /// In memory: what waits is lost when the process is killed. For sources that keep their events
        /// until they are delivered.
        Memory = "memory",
    }
}

impl BufferKind {
    /// Returns the bound of a buffer of this kind unless one is set, in bytes.
    #[must_use]
    pub(crate) const fn default_size(self) -> u64 {
        match self {
            Self::Disk => 8 << 30,
            Self::Memory => 512 << 20,
        }
    }
}

impl BufferConfig {
    /// Returns the defaults of a buffer in memory, for programs that keep their events themselves.
    #[must_use]
    pub fn memory() -> Self {
        let kind = BufferKind::Memory;
        Self { kind, max_size: kind.default_size(), ..super::Config::default().buffer }
    }
}

/// Notes what has no effect on a buffer of this kind.
fn buffer(config: &BufferConfig, node: &Node, cx: &mut Context<'_>) {
    if config.kind == BufferKind::Memory && config.on_corruption == OnCorruption::SetAside {
        let message = "`set_aside` has no effect on a buffer in memory";
        let fault = Diagnostic::warning("no_effect", message).help("leave the key out");
        cx.fault(node, "on_corruption", fault);
    }
}

choice! {
    /// What happens when the buffer is full.
    pub enum WhenFull {
        /// New events wait up to 20 s for room, and are then refused.
        Wait = "wait",
        /// New events are refused at once.
        Refuse = "refuse",
    }
}

choice! {
    /// What a disk buffer does with what it cannot read.
    pub enum OnCorruption {
        /// It does not start with such a database, takes and delivers nothing behind such a row, and
        /// says what to do.
        Stop = "stop",
        /// It puts it aside under a dated name, rejects the events of a row, and goes on.
        SetAside = "set_aside",
    }
}

section! {
    /// Where events go that failed or that Customer.io rejected, as plain text files.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct DeadLettersConfig {
        /// Folder, relative to `data_dir`.
        dir: PathBuf as FilePath = "dead-letters",
        /// Bound of all files together, in bytes.
        max_size: u64 as Size<65_536, 1_125_899_906_842_624> = "1 GiB",
        /// Older files are removed, replayed or not.
        max_age: Duration as Period<3_600_000, 315_360_000_000> = "90d",
        /// What happens at the bound.
        when_full: DeadLettersFull as Choice = "hold",
    }
}

choice! {
    /// What happens when the dead letters have reached their bound.
    pub enum DeadLettersFull {
        /// Delivery stops until there is room (a replay, or files that were removed); nothing is lost.
        Hold = "hold",
        /// The oldest file is removed, and counted.
        DropOldest = "drop_oldest",
    }
}
