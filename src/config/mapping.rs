//! `mapping`.

use std::path::PathBuf;

use super::declare::{Choice, Choices, Sect, choice, section};
#[cfg(feature = "pipeline")]
use super::declare::{Compare, Differences};
use super::form::{Count, FilePath, Flag, Nullable, Text};
use crate::mapping::Settings;

section! {
    /// The scripts that map events to Customer.io's operations.
    #[derive(Clone, Debug)]
    pub struct MappingConfig {
        /// Folder of scripts, made by `init`, relative to the working directory. Null: the built-in ones.
        dir: Option<PathBuf> as Nullable<FilePath> = "null",
        /// Whether changed scripts, a changed configuration, and changed files that it names by
        /// `${file:…}` are loaded while running. If scripts do not compile, their tests fail, or a value
        /// is wrong, everything stays as it was.
        watch: bool as Flag = "true",
        /// Mapping threads. Null: one per core.
        threads: Option<usize> as Nullable<Count<1, 1024>> = "null",
    }
    besides {
        /// Values that scripts see as `%customerio.<name>`.
        settings: SettingsKeys as Sect = "{}",
    }
    derived {
        /// What scripts see as `%customerio.<name>`.
        settings: Settings = settings.into(),
    }
}

impl Default for MappingConfig {
    fn default() -> Self {
        super::Config::default().mapping
    }
}

section! {
    /// Values that scripts see as `%customerio.<name>`.
    struct SettingsKeys {
        /// Name of one more track event that registers a device token. Empty: none.
        device_token_event_name: String as Text = "''",
        /// What a `record` event describes.
        record_object: RecordObject as Choice = "person",
    }
}

choice! {
    /// What a `record` event describes.
    enum RecordObject {
        /// A person.
        Person = "person",
        /// An event.
        Event = "event",
    }
}

impl From<SettingsKeys> for Settings {
    fn from(keys: SettingsKeys) -> Self {
        let object = RecordObject::ALL.iter().find(|(_, value, _)| *value == keys.record_object);
        Self {
            device_token_event_name: keys.device_token_event_name,
            record_object: object.map_or("person", |(word, _, _)| word).to_owned(),
        }
    }
}

#[cfg(feature = "pipeline")]
impl Compare for Settings {
    const PLAIN: bool = false;

    fn compare(&self, other: &Self, found: &mut Differences) {
        let Self { device_token_event_name, record_object } = self;
        found.below_key(
            "device_token_event_name",
            device_token_event_name,
            &other.device_token_event_name,
        );
        found.below_key("record_object", record_object, &other.record_object);
    }
}
