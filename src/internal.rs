//! What the tests and benchmarks of this package need besides the library.
//!
//! This is no part of the API: anything here changes or goes without notice.

/// The buffers.
pub mod buffer {
    pub use crate::buffer::disk::{BackendFactory, DiskBuffer, DiskOptions};
    pub use crate::buffer::memory::MemoryBuffer;
    pub use crate::buffer::{Buffer, Stored};
}

/// Delivery, and what stands for Customer.io.
pub mod delivery {
    pub use crate::delivery::client::Client;
    pub use crate::delivery::{DeadLetters, Destination, Hold, Pace, Reply, Verdict, start_paced};
}

/// Events as they are decoded.
pub mod event {
    pub use crate::event::decode::decode;
    pub use crate::event::identity::IdInput;
    pub use crate::event::{Event, Need, Original, Plan};
    pub use crate::source::vector::decode as decode_vector;
}

/// Filter, scripts, and operations: the walk of one event.
pub mod stage {
    pub use crate::filter::Filter;
    pub use crate::mapping::compiled::{Mapping, STACK_BYTES};
    pub use crate::mapping::run::{Mapped, Mapper};
    pub use crate::operation::grammar::check_root;
    pub use crate::operation::{ConflictKeys, Effect, Operation, Operations, prepare};
    pub use crate::stage::{Fill, Stage, Walked};
}

/// Texts as the library reads them.
pub mod config {
    pub use crate::config::yaml::parse as parse_yaml;

    use crate::mapping::Mappings;

    /// The files of the scripts' own tests, by name.
    #[must_use]
    pub fn tests_of(mappings: &Mappings) -> &[(String, String)] {
        &mappings.tests
    }
}

/// The sandbox's model of a workspace.
pub mod sandbox {
    pub use crate::sandbox::workspace::{Received, Workspace};
}

/// Sinks of parts that are put together by hand.
pub mod sink {
    use std::sync::Arc;

    pub use crate::sink::parts::Parts;
    pub use crate::sink::rules::Rules;

    use crate::buffer::Buffer;
    use crate::sink::{Builder, CustomerIoSink};

    /// Starts a sink.
    ///
    /// # Errors
    ///
    /// When the operating system refuses a thread.
    pub fn start(parts: Parts) -> std::io::Result<CustomerIoSink> {
        CustomerIoSink::start(parts)
    }

    /// Puts another buffer in the place of the configured one.
    pub fn with_store(builder: Builder, store: Arc<dyn Buffer>) -> Builder {
        builder.store(store)
    }
}
