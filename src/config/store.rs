//! `buffer` and `dead_letters`: what is kept, how much of it, and what happens when it is full.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::context::Context;
use super::declare::{Choice, Form, choice, section};
use super::form::{Count, FilePath, Period, Size, Text};
use super::tree::Node;

section! {
    /// Where mapped events wait for Customer.io.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BufferConfig {
        /// Bound of what waits, in bytes. A higher one bridges a longer outage and takes that much memory.
        max_size: u64 as Size<1_048_576, 1_125_899_906_842_624> = "512 MiB",
        /// What happens at the bound.
        when_full: WhenFull as Choice = "wait",
        /// How many operations delivery looks at ahead of those that it sends. A higher number helps when
        /// few people have many events.
        read_ahead: usize as Count<1, 1_000_000> = "20000",
    }
    besides {
        /// Kind of the buffer. `memory` loses what waits when the process is killed. `disk` is not
        /// supported yet.
        r#type: () as Memory = "memory",
        /// What a disk buffer does with a database that does not open: `stop` or `set_aside`.
        on_corruption: OnCorruption as Choice = "stop",
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

/// The kind of the buffer: only `memory` for now.
struct Memory;

impl Form<()> for Memory {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<()> {
        match <Text as Form<String>>::decode(node, cx)?.as_str() {
            "memory" => Some(()),
            "disk" => cx.not_yet(node.at, "the buffer type `disk`", "use memory"),
            _ => cx.error(node.at, "unknown_value", "expected `memory`", ""),
        }
    }

    fn schema() -> Value {
        json!({ "const": "memory" })
    }
}

choice! {
    /// What a disk buffer does with what it cannot read.
    pub enum OnCorruption {
        /// It stops, and says what to do.
        Stop = "stop",
        /// It puts it aside under a dated name, and goes on.
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
        /// Older files are removed.
        max_age: Duration as Period<3_600_000, 315_360_000_000> = "90d",
        /// What happens at the bound.
        when_full: DeadLettersFull as Choice = "hold",
    }
}

choice! {
    /// What happens when the dead letters have reached their bound.
    pub enum DeadLettersFull {
        /// Delivery stops; nothing is lost.
        Hold = "hold",
        /// The oldest file is removed, and counted.
        DropOldest = "drop_oldest",
    }
}
