//! `filter`.

use serde_json::{Value, json};

use super::context::Context;
#[cfg(feature = "pipeline")]
use super::declare::plain;
use super::declare::{Choice, Choices, Form, Sect, choice, reference_schema, section};
use super::form::{List, Word};
use super::tree::{Data, Node};
use crate::diagnostic::Diagnostic;

section! {
    /// Which events may go to Customer.io, apart from consent.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FilterConfig {
        /// Who sends to Customer.io: `cloud` (this program) or `device` (the SDK itself; then its events
        /// are counted and not sent). One word for all, or a mapping by source type with a `default`.
        mode: ModeConfig as Modes = "cloud",
        /// Names of this destination in an event's `integrations` object.
        integration_names: Vec<String> as List<Word, 1> = "[ Customer IO ]",
        /// Which track events pass, by name.
        events: EventListConfig as Sect = "{}",
    }
}

/// Connection modes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeConfig {
    /// For source types that are not listed.
    pub default: Mode,
    /// By source type.
    pub by_source_type: Vec<(String, Mode)>,
}

#[cfg(feature = "pipeline")]
plain! { ModeConfig }

choice! {
    /// Who sends a source's events to Customer.io.
    pub enum Mode {
        /// This program does.
        Cloud = "cloud",
        /// The SDK on the device does; this program must not.
        Device = "device",
    }
}

section! {
    /// Which track events pass, by name.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct EventListConfig {
        /// What `names` means.
        mode: EventListMode as Choice = "off",
        /// Names of track events, compared exactly after trimming.
        names: Vec<String> as List<Word> = "[]",
    }
    checked by event_list
}

choice! {
    /// What `filter.events.names` means.
    pub enum EventListMode {
        /// Nothing; all track events pass.
        Off = "off",
        /// Only the named events pass.
        Allow = "allow",
        /// The named events do not pass.
        Deny = "deny",
    }
}

/// One mode, or a mapping by source type.
pub(super) struct Modes;

impl Form<ModeConfig> for Modes {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<ModeConfig> {
        let Data::Map(entries) = &node.data else {
            let default = <Choice as Form<Mode>>::decode(node, cx)?;
            return Some(ModeConfig { default, by_source_type: Vec::new() });
        };
        let mut config = ModeConfig { default: Mode::Cloud, by_source_type: Vec::new() };
        let mut whole = true;
        for entry in entries {
            let decode = |cx: &mut Context<'_>| <Choice as Form<Mode>>::decode(&entry.value, cx);
            match cx.below_key(&entry.key, decode) {
                Some(mode) if entry.key == "default" => config.default = mode,
                Some(mode) => config.by_source_type.push((entry.key.clone(), mode)),
                None => whole = false,
            }
        }
        whole.then_some(config)
    }

    fn schema() -> Value {
        let words: Vec<&str> = Mode::ALL.iter().map(|(word, _, _)| *word).collect();
        json!({ "anyOf": [
            { "enum": words },
            { "type": "object", "additionalProperties": { "enum": words } },
            reference_schema(),
        ] })
    }
}

/// Checks that the list of names and its mode fit together.
fn event_list(events: &EventListConfig, node: &Node, cx: &mut Context<'_>) {
    let fault = match (events.mode, events.names.is_empty()) {
        (EventListMode::Allow, true) => {
            Diagnostic::error("empty_list", "`mode: allow` with no name lets no track event pass")
                .help("name the events that may pass, or write mode: off")
        }
        (EventListMode::Deny, true) => {
            Diagnostic::warning("no_effect", "`mode: deny` with no name has no effect")
                .help("name the events that may not pass, or write mode: off")
        }
        (EventListMode::Off, false) => {
            Diagnostic::warning("no_effect", "the names have no effect with `mode: off`")
                .help("write mode: allow or mode: deny")
        }
        _ => return,
    };
    cx.fault(node, "names", fault);
}
