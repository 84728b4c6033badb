//! Which events may go to Customer.io: connection mode, event list, `integrations`, consent.
//!
//! The first refusal wins and names its rule.

pub mod consent;
pub mod integrations;
pub mod mode;

use crate::config::{ConsentConfig, FilterConfig};
use crate::event::Event;
use crate::outcome::Outcome;
use crate::source::Origin;

/// The checked rules of one destination.
#[derive(Clone, Debug)]
pub struct Filter {}

/// What each rule said, for `map --explain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
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
        let _ = (filter, consent);
        todo!()
    }

    /// Decides about one event; `None` lets it pass.
    pub fn decide(&self, event: &Event, origin: &Origin) -> Option<Outcome> {
        let _ = (event, origin);
        todo!()
    }

    /// As [`Filter::decide`], and tells what every rule said.
    pub fn explain(&self, event: &Event, origin: &Origin) -> (Option<Outcome>, Explanation) {
        let _ = (event, origin);
        todo!()
    }
}
