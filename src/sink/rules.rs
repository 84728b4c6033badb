//! What a reload swaps: filter and mapping as one immutable snapshot.

use std::fmt;
use std::sync::Arc;

use crate::filter::Filter;
use crate::mapping::Mapping;
use crate::source::{Batch, Incoming};
use crate::stage::{Fill, Stage, Walked};

/// Filter and mapping that belong together.
#[derive(Debug)]
pub struct Rules {
    /// Which events may pass.
    pub filter: Arc<Filter>,
    /// What becomes of them.
    pub mapping: Arc<Mapping>,
}

/// From which every mapping thread makes its own walk.
pub(super) trait Snapshot: Send + Sync + 'static {
    fn walker(&self) -> Box<dyn Walk>;
}

/// One thread's walk from element to operations.
pub(super) trait Walk {
    fn walk(&mut self, element: &Incoming, batch: &Batch) -> Walked;
}

impl fmt::Debug for dyn Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Walk")
    }
}

impl Snapshot for Rules {
    fn walker(&self) -> Box<dyn Walk> {
        let (filter, mapping) = (Arc::clone(&self.filter), Arc::clone(&self.mapping));
        Box::new(Stage::new(filter, mapping, Fill::Gateway))
    }
}

impl Walk for Stage {
    fn walk(&mut self, element: &Incoming, batch: &Batch) -> Walked {
        Stage::walk(self, element, batch)
    }
}
