//! What a reload swaps: filter and mapping as one immutable snapshot.

use std::sync::Arc;

use crate::filter::Filter;
use crate::mapping::Mapping;
use crate::source::{EventBatch, Incoming};
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
    type Walk: Walk;

    fn walker(&self) -> Self::Walk;

    /// Makes a walk out of one over an earlier snapshot, keeping what has not changed.
    fn walker_after(&self, earlier: Self::Walk) -> Self::Walk;
}

/// One thread's walk from element to operations.
pub(super) trait Walk {
    fn walk(&mut self, element: &Incoming, batch: &EventBatch) -> Walked;
}

impl Snapshot for Rules {
    type Walk = Stage;

    fn walker(&self) -> Stage {
        let (filter, mapping) = (Arc::clone(&self.filter), Arc::clone(&self.mapping));
        Stage::prepared(filter, mapping, Fill::Gateway)
    }

    fn walker_after(&self, earlier: Stage) -> Stage {
        earlier.over(&self.filter, &self.mapping)
    }
}

impl Walk for Stage {
    fn walk(&mut self, element: &Incoming, batch: &EventBatch) -> Walked {
        Stage::walk(self, element, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::filter::Filter;
    use crate::mapping::{Mappings, Settings};

    fn rules(mapping: &Arc<Mapping>) -> Rules {
        let config = Config::default();
        let filter = Arc::new(Filter::new(&config.filter, &config.consent));
        Rules { filter, mapping: Arc::clone(mapping) }
    }

    fn mapping() -> Arc<Mapping> {
        let scripts = Mappings {
            list: vec![("track".into(), vec!["track.vrl".into()])],
            list_text: String::new(),
            files: vec![("track.vrl".into(), ". = []".into())],
            tests: vec![],
            dir: None,
        };
        let mapping = Arc::new(Mapping::load(&scripts, &Settings::default()).unwrap());
        mapping.prepare(1);
        mapping
    }

    #[test]
    fn a_walk_takes_what_is_prepared_and_keeps_it_when_the_filter_alone_changes() {
        let known = mapping();
        let walk = rules(&known).walker();
        assert_eq!(known.prepared(), 0);
        known.prepare(1);
        let walk = rules(&known).walker_after(walk);
        assert_eq!(known.prepared(), 1, "the same scripts are not compiled again");
        let other = mapping();
        let _walk = rules(&other).walker_after(walk);
        assert_eq!(other.prepared(), 0);
    }
}
