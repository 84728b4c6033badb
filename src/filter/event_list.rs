//! The event list: track events that may or may not pass, by name.
//!
//! The comparison is the one of RudderStack's SDKs (`eventFilteringOption`), which apply such lists
//! in device mode only. Here it is an option of its own.

use bytes::Bytes;

use super::reader;
use crate::config::{EventListConfig, EventListMode};

/// The configured list, names trimmed.
#[derive(Clone, Debug)]
pub struct EventList {
    mode: EventListMode,
    names: Vec<Box<str>>,
}

/// What the list said about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// There is no list.
    Off,
    /// Lists speak of track events only.
    NotTrack,
    /// The name is on the allow list.
    Allowed,
    /// The name is not on the deny list.
    NotDenied,
    /// The deny list cannot name an event without a name.
    NoName,
    /// The name is on the deny list.
    Denied,
    /// The name is not on the allow list, or there is no name.
    NotAllowed,
}

impl Listed {
    /// Returns whether the event may pass.
    #[must_use]
    pub const fn passes(self) -> bool {
        !matches!(self, Self::Denied | Self::NotAllowed)
    }

    /// Returns the word that `map --explain` shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NotTrack => "not_a_track_event",
            Self::Allowed => "on_allow_list",
            Self::NotDenied => "not_on_deny_list",
            Self::NoName => "event_without_name",
            Self::Denied => "on_deny_list",
            Self::NotAllowed => "not_on_allow_list",
        }
    }
}

impl EventList {
    /// Makes the list from checked configuration.
    #[must_use]
    pub fn new(config: &EventListConfig) -> Self {
        let names = config.names.iter().map(|n| trim(n).into()).collect();
        Self { mode: config.mode, names }
    }

    /// Decides about an event of the lower-case type `type_name`; `event` is the raw JSON of its
    /// member `event`.
    #[must_use]
    pub fn decide(&self, type_name: &str, event: Option<&Bytes>) -> Listed {
        if self.mode == EventListMode::Off {
            return Listed::Off;
        }
        if type_name != "track" {
            return Listed::NotTrack;
        }
        let listed = event.and_then(|raw| {
            reader::with_text(raw, |name| {
                let name = trim(name);
                self.names.iter().any(|n| &**n == name)
            })
        });
        match (self.mode, listed) {
            (EventListMode::Allow, Some(true)) => Listed::Allowed,
            (EventListMode::Allow, _) => Listed::NotAllowed,
            (_, Some(true)) => Listed::Denied,
            (_, Some(false)) => Listed::NotDenied,
            (_, None) => Listed::NoName,
        }
    }
}

/// Trims as JavaScript does, since the SDKs that brought the rule do so.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(mode: EventListMode, names: &[&str]) -> EventList {
        let names = names.iter().map(|n| (*n).to_owned()).collect();
        EventList::new(&EventListConfig { mode, names })
    }

    fn said(list: &EventList, type_name: &str, event: Option<&'static str>) -> Listed {
        list.decide(type_name, event.map(|e| Bytes::from_static(e.as_bytes())).as_ref())
    }

    #[test]
    fn names_compare_exactly_after_trimming_both_sides() {
        let deny = list(EventListMode::Deny, &[" Order Completed ", "é"]);
        assert_eq!(said(&deny, "track", Some(r#""Order Completed""#)), Listed::Denied);
        assert_eq!(
            said(&deny, "track", Some(r#""\ufeff\tOrder Completed\u00a0""#)),
            Listed::Denied
        );
        assert_eq!(said(&deny, "track", Some(r#""\u00e9""#)), Listed::Denied);
        assert_eq!(said(&deny, "track", Some(r#""order completed""#)), Listed::NotDenied);
        assert_eq!(said(&deny, "track", Some(r#""\u0085Order Completed""#)), Listed::NotDenied);
    }

    #[test]
    fn without_a_name_deny_passes_and_allow_stops() {
        for event in [None, Some("null"), Some("5"), Some("{}")] {
            let deny = list(EventListMode::Deny, &["a"]);
            assert_eq!(said(&deny, "track", event), Listed::NoName);
            let allow = list(EventListMode::Allow, &["a"]);
            assert_eq!(said(&allow, "track", event), Listed::NotAllowed);
        }
        assert!(Listed::NoName.passes());
        assert!(!Listed::NotAllowed.passes());
    }

    #[test]
    fn an_empty_allow_list_stops_every_track_event_and_no_other() {
        let allow = list(EventListMode::Allow, &[]);
        assert_eq!(said(&allow, "track", Some(r#""a""#)), Listed::NotAllowed);
        assert_eq!(said(&allow, "page", Some(r#""a""#)), Listed::NotTrack);
        assert_eq!(
            said(&list(EventListMode::Allow, &["a"]), "track", Some(r#""a""#)),
            Listed::Allowed
        );
    }

    #[test]
    fn a_list_that_is_off_says_nothing() {
        let off = list(EventListMode::Off, &["a"]);
        assert_eq!(said(&off, "track", Some(r#""a""#)), Listed::Off);
        assert!(Listed::Off.passes());
    }
}
