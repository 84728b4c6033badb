//! Test files as cases, with a diagnostic for everything that is no case.

use serde_json::Value as Json;

use crate::config::tree::{Data, Node};
use crate::config::yaml;
use crate::diagnostic::{Diagnostic, Place};
use crate::mapping::Settings;

/// Members that a case may have.
const MEMBERS: [&str; 6] = ["name", "event", "settings", "operations", "outcome", "reason"];

/// One test.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) event: Json,
    /// Settings in place of the configured ones.
    pub(super) settings: Option<Settings>,
    pub(super) expected: Expected,
}

/// What a test expects.
pub(super) enum Expected {
    Operations(Vec<Json>),
    Ended { outcome: String, reason: Option<String> },
}

/// Reads a file of tests; what is wrong in it goes to `faults`, and the good cases are returned.
pub(super) fn parse(text: &str, file: &str, faults: &mut Vec<Diagnostic>) -> Vec<Case> {
    let root = match yaml::parse(text, file) {
        Ok(root) => root,
        Err(more) => {
            faults.extend(more);
            return Vec::new();
        }
    };
    let mut reading = Reading { file, faults };
    if !matches!(root.data, Data::List(_)) {
        reading.fault(&root, "a file of tests is a list of cases");
    }
    root.elements().iter().filter_map(|node| reading.case(node)).collect()
}

struct Reading<'a> {
    file: &'a str,
    faults: &'a mut Vec<Diagnostic>,
}

impl Reading<'_> {
    fn fault(&mut self, node: &Node, message: &str) {
        let place = Place {
            file: self.file.to_owned(),
            line: node.at.line,
            column: node.at.column,
            ..Place::default()
        };
        let help = "a case is `{name, event, settings?, operations: […]}` or \
                    `{name, event, settings?, outcome: dropped|failed, reason?: text}`";
        self.faults.push(Diagnostic::error("test_case", message).at(place).help(help));
    }

    fn case(&mut self, node: &Node) -> Option<Case> {
        let before = self.faults.len();
        for entry in node.entries() {
            if !MEMBERS.contains(&entry.key.as_str()) {
                self.fault(&entry.value, &format!("a case has no member `{}`", entry.key));
            }
        }
        let name = node.get("name").and_then(Node::as_text);
        if name.is_none() {
            self.fault(node, "the case has no `name`");
        }
        let event = node.get("event").filter(|event| matches!(event.data, Data::Map(_)));
        if event.is_none() {
            self.fault(node, "the case has no `event` (an object)");
        }
        let settings = node.get("settings").map(|settings| self.settings(settings));
        let expected = self.expected(node);
        match (name, event, expected) {
            (Some(name), Some(event), Some(expected)) if self.faults.len() == before => {
                Some(Case { name: name.to_owned(), event: event.to_json(), settings, expected })
            }
            _ => None,
        }
    }

    fn settings(&mut self, node: &Node) -> Settings {
        let mut settings = Settings::default();
        for entry in node.entries() {
            let slot = match entry.key.as_str() {
                "device_token_event_name" => &mut settings.device_token_event_name,
                "record_object" => &mut settings.record_object,
                other => {
                    self.fault(&entry.value, &format!("there is no setting `{other}`"));
                    continue;
                }
            };
            match entry.value.as_text() {
                Some(text) => text.clone_into(slot),
                None => self.fault(&entry.value, "a setting is a text"),
            }
        }
        settings
    }

    fn expected(&mut self, node: &Node) -> Option<Expected> {
        match (node.get("operations"), node.get("outcome")) {
            (Some(operations), None) if matches!(operations.data, Data::List(_)) => {
                if let Some(reason) = node.get("reason") {
                    self.fault(reason, "a `reason` belongs to an `outcome`");
                }
                Some(Expected::Operations(
                    operations.elements().iter().map(Node::to_json).collect(),
                ))
            }
            (None, Some(outcome)) => match outcome.as_text() {
                Some(text @ ("dropped" | "failed")) => Some(Expected::Ended {
                    outcome: text.to_owned(),
                    reason: node.get("reason").and_then(Node::as_text).map(str::to_owned),
                }),
                _ => {
                    self.fault(outcome, "an `outcome` is `dropped` or `failed`");
                    None
                }
            },
            (Some(operations), None) => {
                self.fault(operations, "`operations` is a list");
                None
            }
            (Some(_), Some(outcome)) => {
                self.fault(outcome, "a case expects either `operations` or an `outcome`");
                None
            }
            (None, None) => {
                self.fault(node, "the case expects nothing: `operations` or `outcome` is missing");
                None
            }
        }
    }
}
