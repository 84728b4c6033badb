//! Turns lines of input into lines of output.

use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use serde::Serialize;

use super::{Api, curl};
use crate::event::at_path::at_path;
use crate::filter::Filter;
use crate::mapping::Mapping;
use crate::operation::{Operations, v1};
use crate::outcome::{Outcome, OutcomeKind, Reason, ReasonCode};
use crate::source::{EventBatch, Incoming, Origin};
use crate::stage::{Explained, Fill, Stage, Walked};

/// What the crew has to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// Which events may pass.
    pub filter: Arc<Filter>,
    /// The scripts.
    pub mapping: Arc<Mapping>,
    /// Where in a line the event stands; the line is the event without it.
    pub event_path: Option<Arc<[String]>>,
    /// Where the events are said to come from.
    pub origin: Origin,
    /// What is printed.
    pub format: Format,
}

/// What is printed for an event.
#[derive(Clone, Debug)]
pub enum Format {
    /// One JSON line.
    Lines {
        /// Whose requests are added.
        api: Option<Api>,
        /// Whether it is told what decided.
        explain: bool,
    },
    /// One curl command per request.
    Curl {
        /// Whose requests are printed.
        api: Api,
        /// Scheme and host, without a slash at the end.
        base: String,
        /// Whether a comment tells what decided.
        explain: bool,
    },
}

/// The output for some lines.
#[derive(Debug, Default)]
pub struct Page {
    /// For standard output.
    pub data: Vec<u8>,
    /// For standard error.
    pub notes: String,
    /// How many events were malformed or failed.
    pub unwell: u64,
}

impl Job {
    /// Makes what one thread works with.
    pub fn press(&self) -> Press {
        Press {
            stage: Stage::new(Arc::clone(&self.filter), Arc::clone(&self.mapping), Fill::Nothing),
            batch: EventBatch {
                elements: Vec::new(),
                set_type: None,
                origin: self.origin.clone(),
                received_at: Utc::now(),
                client_ip: None,
            },
            event_path: self.event_path.clone(),
            format: self.format.clone(),
        }
    }
}

/// Maps and prints, on one thread.
pub struct Press {
    stage: Stage,
    batch: EventBatch,
    event_path: Option<Arc<[String]>>,
    format: Format,
}

impl Press {
    /// Maps the lines and prints their page.
    pub fn print(&mut self, lines: &[Incoming]) -> Page {
        let mut page = Page::default();
        for line in lines {
            let event = self.unwrapped(line);
            let line = event.as_ref().unwrap_or(line);
            let (walked, explained) = match self.format {
                Format::Lines { explain: true, .. } | Format::Curl { explain: true, .. } => {
                    self.stage.explain(line, &self.batch)
                }
                _ => (self.stage.walk(line, &self.batch), None),
            };
            page.enter(line.position, &walked, explained.as_ref(), &self.format);
        }
        page
    }

    /// The event inside of a line that is not the event itself.
    fn unwrapped(&self, line: &Incoming) -> Option<Incoming> {
        let (path, json) = (self.event_path.as_ref()?, line.json.as_ref().ok()?);
        Some(Incoming::new(at_path(json, path), line.position))
    }
}

impl Page {
    fn enter(&mut self, line: u64, walked: &Walked, explain: Option<&Explained>, format: &Format) {
        let made = match walked {
            Walked::Ended(outcome) | Walked::Failed(outcome, _) => Err(outcome.clone()),
            Walked::Ready(prepared) => requests(&prepared.operations, format.api())
                .map(|requests| (&prepared.operations, requests)),
        };
        if let Err(outcome) = &made
            && matches!(outcome.kind(), OutcomeKind::Malformed | OutcomeKind::Failed)
        {
            self.unwell += 1;
        }
        match (format, made) {
            (Format::Curl { base, .. }, Ok((_, requests))) => {
                self.comment(line, "mapped", explain);
                for request in &requests {
                    curl::command(base, request, &mut self.data);
                    self.data.push(b'\n');
                }
            }
            (Format::Curl { .. }, Err(outcome)) if explain.is_some() => {
                self.comment(line, &in_words(&outcome), explain);
            }
            (Format::Curl { .. }, Err(outcome)) => {
                self.notes.push_str(&format!("line {line}: {}\n", in_words(&outcome)));
            }
            (Format::Lines { api, .. }, Ok((operations, requests))) => {
                self.mapped(line, operations, api.map(|_| &*requests), explain);
            }
            (Format::Lines { .. }, Err(outcome)) => self.ended(line, &outcome, explain),
        }
    }

    /// Tells between commands what decided. The output stays a script that a shell can run.
    fn comment(&mut self, line: u64, ending: &str, explain: Option<&Explained>) {
        let Some(explain) = explain else { return };
        // A line break in a script's own words would end the comment.
        let ending = ending.replace(char::is_control, " ");
        self.data.extend_from_slice(format!("# line {line}: {ending} ").as_bytes());
        self.json(explain);
        self.data.push(b'\n');
    }

    fn mapped(
        &mut self,
        line: u64,
        operations: &Operations,
        requests: Option<&[v1::Request]>,
        explain: Option<&Explained>,
    ) {
        self.data.extend_from_slice(
            format!("{{\"line\":{line},\"outcome\":\"mapped\",\"operations\":[").as_bytes(),
        );
        for (i, operation) in operations.iter().enumerate() {
            if i > 0 {
                self.data.push(b',');
            }
            self.data.extend_from_slice(&operation.body);
        }
        self.data.push(b']');
        if let Some(requests) = requests {
            self.data.extend_from_slice(b",\"requests\":[");
            for (i, request) in requests.iter().enumerate() {
                if i > 0 {
                    self.data.push(b',');
                }
                self.request(request);
            }
            self.data.push(b']');
        }
        self.close(explain);
    }

    fn request(&mut self, request: &v1::Request) {
        self.data.extend_from_slice(b"{\"method\":");
        self.json(request.method);
        self.data.extend_from_slice(b",\"path\":");
        self.json(&request.path);
        self.data.extend_from_slice(b",\"body\":");
        match &request.body {
            Some(body) => self.data.extend_from_slice(body),
            None => self.data.extend_from_slice(b"null"),
        }
        self.data.push(b'}');
    }

    fn ended(&mut self, line: u64, outcome: &Outcome, explain: Option<&Explained>) {
        self.data.extend_from_slice(
            format!("{{\"line\":{line},\"outcome\":\"{}\"", outcome.kind()).as_bytes(),
        );
        if let Some(Reason { code, detail }) = outcome.reason() {
            self.data.extend_from_slice(b",\"reason\":");
            self.json(code.as_str());
            if let Some(detail) = detail {
                self.data.extend_from_slice(b",\"detail\":");
                self.json(detail);
            }
        }
        self.close(explain);
    }

    fn close(&mut self, explain: Option<&Explained>) {
        if let Some(explain) = explain {
            self.data.extend_from_slice(b",\"explain\":");
            self.json(explain);
        }
        self.data.extend_from_slice(b"}\n");
    }

    fn json(&mut self, value: &(impl Serialize + ?Sized)) {
        // Texts written to memory cannot fail.
        drop(serde_json::to_writer(&mut self.data, value));
    }
}

impl Format {
    fn api(&self) -> Option<Api> {
        match self {
            Self::Lines { api, .. } => *api,
            Self::Curl { api, .. } => Some(*api),
        }
    }
}

/// Names an ending with its reason, for people.
fn in_words(outcome: &Outcome) -> String {
    let mut text = outcome.kind().to_string();
    if let Some(reason) = outcome.reason() {
        text.push_str(&format!(" ({})", reason.code));
        if let Some(detail) = &reason.detail {
            text.push_str(&format!(": {detail}"));
        }
    }
    text
}

/// Makes the requests that carry the operations of one event.
fn requests(operations: &Operations, api: Option<Api>) -> Result<Vec<v1::Request>, Outcome> {
    let internal = |error: serde_json::Error| {
        Outcome::Failed(Reason::new(ReasonCode::InvalidOperation, error.to_string()))
    };
    match api {
        None => Ok(Vec::new()),
        Some(Api::V1) => {
            operations.iter().map(|o| v1::request(&o.body).map_err(internal)).collect()
        }
        Some(Api::V2) => {
            let bodies: Vec<Bytes> = operations.iter().map(|o| o.body.clone()).collect();
            Ok(vec![v1::batch(&bodies)])
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::event::Original;
    use crate::event::identity::IdInput;
    use crate::filter::Explanation;
    use crate::operation;
    use crate::stage::Prepared;
    use serde_json::{Value, json};

    use super::*;

    fn ready(root: Value) -> Walked {
        let id_input = IdInput::default();
        let root = serde_json::from_value(root).unwrap();
        let operations = operation::prepare(root, "x.vrl", &id_input, &mut Vec::new()).unwrap();
        let original = Original { raw: Bytes::new(), assigned: Default::default() };
        Walked::Ready(Box::new(Prepared { operations, original, id_input }))
    }

    fn lines(api: Option<Api>) -> Format {
        Format::Lines { api, explain: false }
    }

    fn printed(walked: &Walked, explain: Option<&Explained>, format: &Format) -> Page {
        let mut page = Page::default();
        page.enter(7, walked, explain, format);
        page
    }

    fn line(page: &Page) -> Value {
        assert!(page.data.ends_with(b"}\n"));
        serde_json::from_slice(&page.data).unwrap()
    }

    #[test]
    fn a_mapped_event_shows_its_operations_as_they_are_stored() {
        let identify =
            json!({ "type": "person", "action": "identify", "identifiers": { "id": "u" } });
        let delete = json!({ "type": "person", "action": "delete", "identifiers": { "id": "u" } });
        let walked = ready(json!([identify, delete]));
        let operations = json!([identify, delete]);
        let plain = printed(&walked, None, &lines(None));
        assert_eq!(
            line(&plain),
            json!({ "line": 7, "outcome": "mapped", "operations": operations })
        );
        let v2 = printed(&walked, None, &lines(Some(Api::V2)));
        let body = json!({ "batch": operations });
        assert_eq!(
            line(&v2)["requests"],
            json!([{ "method": "POST", "path": "/api/v2/batch", "body": body }])
        );
        let v1 = printed(&walked, None, &lines(Some(Api::V1)));
        assert_eq!(
            line(&v1)["requests"],
            json!([
                { "method": "PUT", "path": "/api/v1/customers/u", "body": {} },
                { "method": "DELETE", "path": "/api/v1/customers/u", "body": null },
            ])
        );
    }

    #[test]
    fn an_ended_event_shows_reason_and_detail() {
        let withheld = Walked::Ended(Outcome::Withheld(ReasonCode::KetchDenied.into()));
        let page = printed(&withheld, None, &lines(Some(Api::V1)));
        assert_eq!(
            line(&page),
            json!({ "line": 7, "outcome": "withheld", "reason": "ketch_denied" })
        );
        assert_eq!(page.unwell, 0);
        let reason = Reason::new(ReasonCode::InvalidJson, "a \"quote\"");
        let page = printed(&Walked::Ended(Outcome::Malformed(reason)), None, &lines(None));
        assert_eq!(line(&page)["detail"], json!("a \"quote\""));
        assert_eq!(page.unwell, 1);
    }

    #[test]
    fn an_explanation_is_added_to_both() {
        let explained = Explained {
            filter: Explanation {
                mode: "cloud",
                consent: "no_denied_ids",
                ..Explanation::default()
            },
            type_name: "track".into(),
            script: Some("track.vrl".into()),
        };
        let format = Format::Lines { api: None, explain: true };
        let dropped = Walked::Ended(Outcome::Dropped(ReasonCode::NoOperations.into()));
        let delete = json!({ "type": "person", "action": "delete", "identifiers": { "id": "u" } });
        for walked in [dropped, ready(delete)] {
            let line = line(&printed(&walked, Some(&explained), &format));
            assert_eq!(
                line["explain"],
                json!({ "mode": "cloud", "event_list": "", "integrations": "",
                    "consent": "no_denied_ids", "type": "track", "script": "track.vrl" })
            );
        }
    }

    #[test]
    fn commands_go_to_the_output_and_the_rest_is_named_beside_it() {
        let format =
            Format::Curl { api: Api::V2, base: "http://127.0.0.1:8090".into(), explain: false };
        let delete = json!({ "type": "person", "action": "delete", "identifiers": { "id": "u" } });
        let page = printed(&ready(delete), None, &format);
        let command = String::from_utf8(page.data).unwrap();
        assert!(
            command.starts_with("curl ") && command.ends_with("8090/api/v2/batch'\n"),
            "{command}"
        );
        let reason = Reason::new(ReasonCode::ScriptError, "track.vrl: no name");
        let page = printed(&Walked::Ended(Outcome::Failed(reason)), None, &format);
        assert_eq!(page.notes, "line 7: failed (script_error): track.vrl: no name\n");
        assert_eq!((page.data.len(), page.unwell), (0, 1));
    }

    #[test]
    fn an_explanation_is_one_comment_before_the_commands_whatever_the_script_says() {
        let filter = Explanation::default();
        let explained = Explained { filter, type_name: "x\nrm".into(), script: None };
        let format =
            Format::Curl { api: Api::V2, base: "http://127.0.0.1:8090".into(), explain: true };
        let delete = json!({ "type": "person", "action": "delete", "identifiers": { "id": "u" } });
        let page = printed(&ready(delete), Some(&explained), &format);
        let text = String::from_utf8(page.data).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("# line 7: mapped {") && lines[1].starts_with("curl "));
        let reason = Reason::new(ReasonCode::ScriptAbort, "no\nrm -r x\r");
        let page = printed(&Walked::Ended(Outcome::Dropped(reason)), Some(&explained), &format);
        let text = String::from_utf8(page.data).unwrap();
        assert!(text.starts_with("# line 7: dropped (script_abort): no rm -r x"), "{text}");
        assert_eq!((text.lines().count(), text.contains('\r'), page.notes.len()), (1, false, 0));
    }
}
