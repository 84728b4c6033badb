//! One event's walk from bytes to operations: decode, filter, map, check. No I/O.
//!
//! An event that is refused names the first rule on this road: it must be an event (*malformed*),
//! then connection mode, event list, and `integrations` (*filtered*), then consent (*withheld*),
//! then a script for its type (*filtered*, `message_type`). Only then are missing members filled in
//! and does a script run. RudderStack's server asks in the same order, with the message type behind
//! consent; so a denied event of an unknown type is *withheld*.

use std::sync::Arc;

use crate::event::decode::decode_as;
use crate::event::enrich::enrich;
use crate::event::identity::IdInput;
use crate::event::{Event, Original};
#[cfg(feature = "cli")]
use crate::filter::Explanation;
use crate::filter::Filter;
use crate::mapping::{Mapped, Mapper, Mapping};
use crate::operation::{Operations, prepare};
use crate::outcome::{Outcome, Reason, ReasonCode};
use crate::source::{EventBatch, Incoming};

/// How members that are missing in an event are filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// As the gateway does: `messageId`, `rudderId`, `receivedAt`, `request_ip`, and the times.
    Gateway,
    /// Not at all (`map`, `test`).
    #[cfg(feature = "cli")]
    Nothing,
}

/// The walk with its worker; one per thread.
#[derive(Debug)]
pub struct Stage {
    filter: Arc<Filter>,
    mapping: Arc<Mapping>,
    mapper: Mapper,
    fill: Fill,
    scratch: Vec<u8>,
}

/// Where the walk ended.
#[derive(Debug)]
pub enum Walked {
    /// Before mapping or by the script's decision; nothing of the event may be kept.
    Ended(Outcome),
    /// Mapping failed; the event goes to the dead letters.
    Failed(Outcome, Box<Prepared>),
    /// Ready for the buffer.
    Ready(Box<Prepared>),
}

/// What decided about an event on its walk.
#[derive(Clone, Debug, serde::Serialize)]
#[cfg(feature = "cli")]
pub struct Explained {
    /// What every filter said.
    #[serde(flatten)]
    pub filter: Explanation,
    /// The event's type in lower case.
    #[serde(rename = "type")]
    pub type_name: Box<str>,
    /// The script of the type, if there is one.
    pub script: Option<String>,
}

/// A mapped event.
#[derive(Debug)]
pub struct Prepared {
    /// The operations in order (empty when mapping failed).
    pub operations: Operations,
    /// The source event with what we assigned.
    pub original: Original,
    /// Input of the event ids.
    pub id_input: IdInput,
}

impl Stage {
    /// Makes a walk over one snapshot of filter and mapping.
    #[must_use]
    #[cfg(feature = "pipeline")]
    pub fn new(filter: Arc<Filter>, mapping: Arc<Mapping>, fill: Fill) -> Self {
        let mapper = mapping.worker();
        Self { filter, mapping, mapper, fill, scratch: Vec::new() }
    }

    /// As [`Stage::new`], with a worker that is compiled already, if there is one.
    #[must_use]
    pub fn prepared(filter: Arc<Filter>, mapping: Arc<Mapping>, fill: Fill) -> Self {
        let mapper = mapping.prepared_worker();
        Self { filter, mapping, mapper, fill, scratch: Vec::new() }
    }

    /// Goes on over another snapshot; the scripts are compiled only if they are others.
    #[must_use]
    pub fn over(self, filter: &Arc<Filter>, mapping: &Arc<Mapping>) -> Self {
        let filter = Arc::clone(filter);
        if Arc::ptr_eq(&self.mapping, mapping) {
            Self { filter, ..self }
        } else {
            Self::prepared(filter, Arc::clone(mapping), self.fill)
        }
    }

    /// Walks one element of a batch.
    pub fn walk(&mut self, element: &Incoming, batch: &EventBatch) -> Walked {
        let event = match self.decode(element, batch) {
            Ok(event) => event,
            Err(reason) => return Walked::Ended(Outcome::Malformed(reason)),
        };
        match self.filter.decide(&event, &batch.origin) {
            Some(refusal) => Walked::Ended(refusal),
            None => self.map(event, element, batch),
        }
    }

    /// As [`Stage::walk`], and tells what decided; nothing for a malformed element.
    #[cfg(feature = "cli")]
    pub fn explain(
        &mut self,
        element: &Incoming,
        batch: &EventBatch,
    ) -> (Walked, Option<Explained>) {
        let event = match self.decode(element, batch) {
            Ok(event) => event,
            Err(reason) => return (Walked::Ended(Outcome::Malformed(reason)), None),
        };
        let (refusal, filter) = self.filter.explain(&event, &batch.origin);
        let explained = Explained {
            filter,
            type_name: Box::from(&*event.type_name),
            script: event.index.map(|index| self.mapping.file(index).to_owned()),
        };
        let walked = match refusal {
            Some(refusal) => Walked::Ended(refusal),
            None => self.map(event, element, batch),
        };
        (walked, Some(explained))
    }

    fn decode(&self, element: &Incoming, batch: &EventBatch) -> Result<Event, Reason> {
        let json = element.json.as_ref().map_err(Reason::clone)?;
        decode_as(json, self.mapping.plan(), batch.set_type)
    }

    /// Maps an event that no rule has refused.
    fn map(&mut self, mut event: Event, element: &Incoming, batch: &EventBatch) -> Walked {
        let Some(index) = event.index else {
            let reason = Reason::new(ReasonCode::MessageType, "no script is listed for this type");
            return Walked::Ended(Outcome::Filtered(reason));
        };
        let id_input = match &element.replay {
            // Its members were filled in when it was received.
            Some(replay) => replay.id_input.clone(),
            None => {
                if self.fill == Fill::Gateway {
                    let client_ip = batch.client_ip.as_deref();
                    enrich(&mut event, self.mapping.plan(), batch.received_at, client_ip);
                }
                IdInput::of(&event)
            }
        };
        let Event { raw, assigned, body, .. } = event;
        let original = Original { raw, assigned };
        let result = match self.mapper.map(index, body) {
            Mapped::Dropped(reason) => return Walked::Ended(Outcome::Dropped(reason)),
            Mapped::Failed(reason) => Err(reason),
            Mapped::Root(root) => {
                prepare(root, self.mapping.file(index), &id_input, &mut self.scratch)
            }
        };
        let prepared = |operations| Box::new(Prepared { operations, original, id_input });
        match result {
            Ok(operations) if operations.is_empty() => {
                Walked::Ended(Outcome::Dropped(ReasonCode::NoOperations.into()))
            }
            Ok(operations) => Walked::Ready(prepared(operations)),
            Err(reason) => Walked::Failed(Outcome::Failed(reason), prepared(Operations::new())),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use chrono::DateTime;
    use serde_json::{Value, json};

    use super::*;
    use crate::buffer::LetterId;
    use crate::config::{Config, Mode};
    use crate::mapping::{Mappings, Settings};
    use crate::source::{Origin, Replay};

    /// What the one script does is chosen by the event's `do`.
    const SCRIPT: &str = r#"
        if .do == "abort" { abort "not wanted" }
        if .do == "fail" { assert!(false, message: "no name") }
        person = { "id": string(.userId) ?? "" }
        event = { "type": "person", "action": "event", "identifiers": person, "name": "e" }
        if .do == "none" { . = [] } else if .do == "two" { . = [event, event] } else { . = event }
    "#;

    fn mapping() -> Arc<Mapping> {
        let scripts = Mappings {
            list: vec![("track".into(), vec!["first.vrl".into(), "track.vrl".into()])],
            list_text: String::new(),
            files: vec![("first.vrl".into(), String::new()), ("track.vrl".into(), SCRIPT.into())],
            tests: vec![],
            dir: None,
        };
        Arc::new(Mapping::load(&scripts, &Settings::default()).unwrap())
    }

    fn stage(fill: Fill) -> Stage {
        let mut config = Config::default();
        config.filter.mode.by_source_type = vec![("web".into(), Mode::Device)];
        config.consent.onetrust_categories = vec!["C4".into()];
        Stage::new(Arc::new(Filter::new(&config.filter, &config.consent)), mapping(), fill)
    }

    fn batch(source_type: &str) -> EventBatch {
        EventBatch {
            elements: vec![],
            set_type: None,
            origin: Origin { source: Arc::from("test"), source_type: Arc::from(source_type) },
            received_at: DateTime::from_timestamp(1_709_296_500, 0).unwrap(),
            client_ip: Some("192.0.2.1".into()),
        }
    }

    fn element(json: &Value) -> Incoming {
        Incoming::new(Ok(Bytes::from(json.to_string())), 0)
    }

    fn ending(walked: &Walked) -> (&'static str, &'static str) {
        match walked {
            Walked::Ended(outcome) | Walked::Failed(outcome, _) => {
                (outcome.kind().as_str(), outcome.reason().unwrap().code.as_str())
            }
            Walked::Ready(_) => ("ready", ""),
        }
    }

    /// Walks and explains, which must end alike.
    fn walked(stage: &mut Stage, event: &Value, batch: &EventBatch) -> Walked {
        let walked = stage.walk(&element(event), batch);
        let (explained, _) = stage.explain(&element(event), batch);
        assert_eq!(ending(&walked), ending(&explained));
        walked
    }

    #[test]
    fn a_refused_event_names_the_first_rule_on_the_road() {
        let mut stage = stage(Fill::Nothing);
        let mut event = json!({ "type": "unheard of", "integrations": { "All": false },
            "context": { "consentManagement": { "deniedConsentIds": ["C4"] } } });
        let mut end =
            |event: &Value, source: &str| ending(&walked(&mut stage, event, &batch(source)));
        assert_eq!(end(&event, "web"), ("filtered", "device_mode"));
        assert_eq!(end(&event, "cloud"), ("filtered", "integrations"));
        event["integrations"] = json!({ "All": true });
        assert_eq!(end(&event, "cloud"), ("withheld", "onetrust_denied"));
        event["context"] = json!({});
        assert_eq!(end(&event, "cloud"), ("filtered", "message_type"));
        event["type"] = json!(7);
        assert_eq!(end(&event, "web"), ("malformed", "invalid_type"));
        event["type"] = json!("TRACK");
        event["userId"] = json!("u");
        assert_eq!(end(&event, "cloud"), ("ready", ""));
    }

    #[test]
    fn every_way_of_a_script_has_its_ending() {
        let mut stage = stage(Fill::Nothing);
        for (what, ending_) in [
            ("abort", ("dropped", "script_abort")),
            ("fail", ("failed", "script_error")),
            ("none", ("dropped", "no_operations")),
            ("two", ("ready", "")),
            ("one", ("ready", "")),
        ] {
            let event = json!({ "type": "track", "userId": "u", "do": what });
            assert_eq!(ending(&walked(&mut stage, &event, &batch(""))), ending_, "{what}");
        }
        let walked = walked(&mut stage, &json!({ "type": "track" }), &batch(""));
        let Walked::Failed(Outcome::Failed(reason), prepared) = walked else {
            panic!("{walked:?}")
        };
        assert_eq!(reason.code, ReasonCode::InvalidOperation);
        assert_eq!(
            reason.detail.as_deref(),
            Some("track.vrl: identifiers.id must be a non-empty text")
        );
        assert_eq!(&prepared.original.raw[..], br#"{"type":"track"}"#);
    }

    #[test]
    fn a_source_that_could_not_cut_an_element_out_tells_why() {
        let broken = Incoming::new(Err(ReasonCode::TooLarge.into()), 0);
        let walked = stage(Fill::Nothing).walk(&broken, &batch(""));
        assert_eq!(ending(&walked), ("malformed", "too_large"));
    }

    #[test]
    fn event_ids_are_those_of_the_event_as_received() {
        let event = json!({ "type": "track", "do": "two", "event": "Order Completed", "userId": "u-100",
            "messageId": "msg-0001", "anonymousId": "anon-1", "originalTimestamp": "2024-03-01T12:34:56.789Z" });
        for fill in [Fill::Nothing, Fill::Gateway] {
            let Walked::Ready(prepared) = stage(fill).walk(&element(&event), &batch("")) else {
                panic!()
            };
            let id = |i: usize| {
                let body: Value = serde_json::from_slice(&prepared.operations[i].body).unwrap();
                body["id"].as_str().unwrap().to_owned()
            };
            assert_eq!(id(0), "01HQX05C4NJXDYF2MRBF6GKJE6");
            assert_eq!(id(1), "01HQX05C4NSS1QANJA7Q0AQTY1");
            let assigned = prepared.original.assigned.iter().any(|(name, _)| *name == "receivedAt");
            assert_eq!(assigned, fill == Fill::Gateway);
        }
    }

    #[test]
    fn a_replayed_event_keeps_its_ids_and_gets_nothing_filled_in() {
        let first = json!({ "type": "track", "do": "one", "event": "E", "userId": "u" });
        let mut stage = stage(Fill::Gateway);
        let Walked::Ready(first) = stage.walk(&element(&first), &batch("")) else { panic!() };
        let id = |prepared: &Prepared| {
            let body: Value = serde_json::from_slice(&prepared.operations[0].body).unwrap();
            body["id"].as_str().unwrap().to_owned()
        };
        let again = Incoming {
            replay: Some(Box::new(Replay {
                letter: LetterId(1),
                id_input: first.id_input.clone(),
                received_at: DateTime::UNIX_EPOCH,
            })),
            ..Incoming::new(Ok(first.original.to_json().into()), 0)
        };
        let Walked::Ready(second) = stage.walk(&again, &batch("")) else { panic!() };
        assert_eq!(id(&second), id(&first));
        assert!(second.original.assigned.is_empty());
        assert_eq!(second.original.to_json(), first.original.to_json());
        assert_eq!(second.id_input, first.id_input);
    }

    #[test]
    fn an_explanation_names_rules_type_and_script() {
        let mut stage = stage(Fill::Nothing);
        let denied = json!({ "type": "Track", "context": { "consentManagement": { "deniedConsentIds": ["C4"] } } });
        let (_, explained) = stage.explain(&element(&denied), &batch("cloud"));
        assert_eq!(
            serde_json::to_value(explained).unwrap(),
            json!({ "mode": "cloud", "event_list": "off", "integrations": "no_integrations",
                "consent": "onetrust_denied", "type": "track", "script": "track.vrl" })
        );
        let (_, explained) = stage.explain(&element(&json!([])), &batch("cloud"));
        assert!(explained.is_none());
    }
}
