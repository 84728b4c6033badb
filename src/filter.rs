//! Which events may go to Customer.io: connection mode, event list, `integrations`, consent.
//!
//! The first refusal, in that order, wins and names its rule. A withheld event has cost no script.

pub mod consent;
pub mod event_list;
pub mod integrations;
pub mod mode;
mod reader;
mod scan;

use self::consent::Consent;
use self::event_list::EventList;
use self::integrations::Integrations;
use self::mode::Modes;
use crate::config::{ConsentConfig, FilterConfig, Mode};
use crate::event::{Event, Span};
use crate::outcome::{Outcome, ReasonCode};
use crate::source::Origin;

/// The checked rules of one destination.
#[derive(Clone, Debug)]
pub struct Filter {
    modes: Modes,
    event_list: EventList,
    integrations: Integrations,
    consent: Consent,
}

/// What each rule said, for `map --explain`. Every rule is asked, also behind a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[cfg(feature = "cli")]
pub struct Explanation {
    /// What the connection mode said.
    pub mode: &'static str,
    /// What the event list said.
    pub event_list: &'static str,
    /// What the `integrations` object said.
    pub integrations: &'static str,
    /// What decided about consent, such as `no_denied_ids` or `onetrust_denied`.
    pub consent: &'static str,
}

impl Filter {
    /// Makes the filter from checked configuration.
    #[must_use]
    pub fn new(filter: &FilterConfig, consent: &ConsentConfig) -> Self {
        Self {
            modes: Modes::new(&filter.mode),
            event_list: EventList::new(&filter.events),
            integrations: Integrations::new(&filter.integration_names),
            consent: Consent::new(consent),
        }
    }

    /// Decides about one event; `None` lets it pass.
    ///
    /// Counts senders' mistakes that are no refusal in `rudder_customerio_warnings_total`.
    #[must_use]
    pub fn decide(&self, event: &Event, origin: &Origin) -> Option<Outcome> {
        self.mode(origin)
            .1
            .or_else(|| self.event_list(event).1)
            .or_else(|| self.integrations(event).1)
            .or_else(|| self.consent(event).1)
    }

    /// As [`Filter::decide`], and tells what every rule said.
    #[must_use]
    #[cfg(feature = "cli")]
    pub fn explain(&self, event: &Event, origin: &Origin) -> (Option<Outcome>, Explanation) {
        let mode = self.mode(origin);
        let event_list = self.event_list(event);
        let integrations = self.integrations(event);
        let consent = self.consent(event);
        let explanation = Explanation {
            mode: mode.0,
            event_list: event_list.0,
            integrations: integrations.0,
            consent: consent.0,
        };
        (mode.1.or(event_list.1).or(integrations.1).or(consent.1), explanation)
    }

    fn mode(&self, origin: &Origin) -> Ruling {
        match self.modes.of(&origin.source_type) {
            Mode::Cloud => ("cloud", None),
            Mode::Device => ("device", Some(Outcome::Filtered(ReasonCode::DeviceMode.into()))),
        }
    }

    fn event_list(&self, event: &Event) -> Ruling {
        let name = event.spans.event.map(|span| span.of(&event.raw));
        let listed = self.event_list.decide(&event.type_name, name.as_ref());
        let refusal = || Outcome::Filtered(ReasonCode::EventList.into());
        (listed.as_str(), (!listed.passes()).then(refusal))
    }

    fn integrations(&self, event: &Event) -> Ruling {
        let raw = event.spans.integrations.map(|span| span.of(&event.raw));
        let verdict = self.integrations.decide(raw.as_ref());
        if verdict.suspicious {
            warn("suspicious_integrations");
        }
        let refusal = || Outcome::Filtered(ReasonCode::Integrations.into());
        (verdict.said.as_str(), (!verdict.said.passes()).then(refusal))
    }

    fn consent(&self, event: &Event) -> Ruling {
        let raw = event.spans.consent.map(|span: Span| span.of(&event.raw));
        let verdict = self.consent.decide(raw.as_ref());
        if verdict.malformed {
            warn("malformed_consent");
        }
        let refusal = verdict.decided.refusal().map(|code| Outcome::Withheld(code.into()));
        (verdict.decided.as_str(), refusal)
    }
}

/// What one rule said, and its refusal.
type Ruling = (&'static str, Option<Outcome>);

fn warn(code: &'static str) {
    metrics::counter!("rudder_customerio_warnings_total", "code" => code).increment(1);
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
