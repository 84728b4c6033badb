//! What a reload reads and checks before anything of it is in force.

use std::sync::Arc;

use super::{InForce, Reread};
use crate::config::{Changes, Config, MappingConfig};
use crate::diagnostic::Diagnostic;
use crate::mapping::reload::accept;
use crate::mapping::{Mapping, Mappings};
use crate::operation::grammar::check_root;

/// What a reload can be refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline) enum Part {
    Configuration,
    Mappings,
}

impl Part {
    /// Returns the label of the metric.
    pub(super) fn stage(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Mappings => "mapping",
        }
    }
}

/// Why nothing of what was read is put in force.
pub(super) struct Refused {
    pub(super) part: Part,
    pub(super) faults: Vec<Diagnostic>,
}

/// What is right and could be in force.
pub(super) struct Candidate {
    /// What would be in force: without the keys that need a restart.
    pub(super) config: Config,
    pub(super) changes: Changes,
    /// Warnings of the configuration.
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) scripts: Mappings,
    /// The compiled scripts, if they, their settings, or their folder are not those in force.
    pub(super) mapping: Option<Arc<Mapping>>,
}

impl Candidate {
    /// Reads configuration and scripts, and checks both. `hash` is the one of the scripts in force.
    /// Needs the stack of a mapping thread.
    pub(super) fn read(
        reread: Option<&Reread>,
        started: &Config,
        now: &InForce,
        hash: &str,
    ) -> Result<Self, Refused> {
        let refused = |part| move |faults| Refused { part, faults };
        let (config, changes, warnings) = match reread {
            Some(reread) => {
                let (read, warnings) =
                    reread().map_err(Vec::from).map_err(refused(Part::Configuration))?;
                if read.customerio.is_none() {
                    return Err(refused(Part::Configuration)(vec![missing_customerio()]));
                }
                let changes = Changes::between(started, &now.config, &read);
                (started.with_live_keys_of(&read), changes, warnings)
            }
            None => (now.config.clone(), Changes::default(), Vec::new()),
        };
        let scripts = scripts(&config.mapping).map_err(refused(Part::Mappings))?;
        let settings = &config.mapping.settings;
        let same = *settings == now.config.mapping.settings && scripts.dir == now.scripts.dir;
        let mapping = match same && scripts == now.scripts {
            true => None,
            // Others of their tests are to pass, and change nothing.
            false => {
                let mapping = accept(&scripts, settings, &check_root);
                let mapping = mapping.map_err(refused(Part::Mappings))?;
                Some(mapping).filter(|mapping| !same || mapping.hash() != hash).map(Arc::new)
            }
        };
        Ok(Self { config, changes, warnings, scripts, mapping })
    }
}

/// Reads the scripts of a configuration.
pub(in crate::pipeline) fn scripts(config: &MappingConfig) -> Result<Mappings, Vec<Diagnostic>> {
    match &config.dir {
        Some(dir) => Ok(Mappings::read(dir)?),
        None => Ok(Mappings::built_in()),
    }
}

/// What is wrong with a configuration that names no destination.
pub(in crate::pipeline) fn missing_customerio() -> Diagnostic {
    Diagnostic::error("missing_section", "the section `customerio` is missing")
        .help("add it with `site_id` and `api_key` of the workspace")
}
