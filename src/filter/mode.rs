//! Connection mode: who sends the events of a source type to Customer.io.
//!
//! In RudderStack's device mode the SDK on the device has sent the event itself; sending it again
//! would double it. Nothing in the event tells the mode, so it is configuration.

use crate::config::{Mode, ModeConfig};

/// The connection mode of every source type.
#[derive(Clone, Debug)]
pub struct Modes {
    default: Mode,
    by_source_type: Vec<(Box<str>, Mode)>,
}

impl Modes {
    /// Makes the modes from checked configuration.
    #[must_use]
    pub fn new(config: &ModeConfig) -> Self {
        let by_source_type =
            config.by_source_type.iter().map(|(t, m)| (t.as_str().into(), *m)).collect();
        Self { default: config.default, by_source_type }
    }

    /// Returns the mode of a source type, which is compared exactly.
    #[must_use]
    pub fn of(&self, source_type: &str) -> Mode {
        let listed = self.by_source_type.iter().find(|(t, _)| &**t == source_type);
        listed.map_or(self.default, |(_, mode)| *mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_type_that_is_not_listed_has_the_default_mode() {
        let modes = Modes::new(&ModeConfig {
            default: Mode::Cloud,
            by_source_type: vec![("web".into(), Mode::Device), ("ios".into(), Mode::Cloud)],
        });
        assert_eq!(modes.of("web"), Mode::Device);
        assert_eq!(modes.of("ios"), Mode::Cloud);
        assert_eq!(modes.of("Web"), Mode::Cloud);
        assert_eq!(modes.of(""), Mode::Cloud);
    }

    #[test]
    fn the_default_may_be_device() {
        let modes = Modes::new(&ModeConfig {
            default: Mode::Device,
            by_source_type: vec![("cloud".into(), Mode::Cloud)],
        });
        assert_eq!(modes.of("cloud"), Mode::Cloud);
        assert_eq!(modes.of("android"), Mode::Device);
    }
}
