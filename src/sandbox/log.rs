//! The request log: the last requests with their answers, bounded, without credentials.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use serde::{Deserialize, Serialize};

use super::clock::Seconds;
use super::credentials::{self, Shown};
use super::validate::ItemError;

/// Refused items that a record keeps: a body of the allowed size can have a quarter of a million.
const MOST_ERRORS: usize = 1000;

/// How much of a request with a fault was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Applied {
    /// Everything that is valid.
    Yes,
    /// Nothing.
    No,
    /// All but the items that the fault chose.
    Items,
}

/// A fault that was applied to a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FaultRecord {
    /// Position of the rule.
    pub rule: usize,
    /// What went wrong, such as `status_503`.
    pub name: String,
    /// How much of the request was applied.
    pub applied: Applied,
}

/// Why one item was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ItemRecord {
    /// Position in the batch.
    pub batch_index: usize,
    /// `required` or `invalid`.
    pub reason: String,
    /// Path of the member.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

/// A request and its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RequestRecord {
    /// Counts all requests from 1; answers carry it as `X-Sandbox-Request`.
    pub number: u64,
    /// When it was received.
    pub at: Seconds,
    /// HTTP method; empty for a connection that a fault reset before it brought a request.
    pub method: String,
    /// Path with query; empty as the method.
    pub path: String,
    /// Headers; credentials are cut to their last four characters.
    pub headers: BTreeMap<String, String>,
    /// The beginning of the body.
    pub body: String,
    /// Size of the body as received.
    pub body_bytes: usize,
    /// Last four characters of the API key that was shown.
    pub credential: Option<String>,
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// The beginning of the answer's body.
    pub answer: String,
    /// Items in the batch; 1 for other operations that were read, else 0.
    pub items: usize,
    /// Items that were taken; the others are in `errors`, or the whole was refused.
    pub accepted: usize,
    /// Items that were refused; the first 1000 of them.
    pub errors: Vec<ItemRecord>,
    /// The fault.
    pub fault: Option<FaultRecord>,
    /// What else is noteworthy, such as an EU workspace's data passing through the US.
    pub note: Option<String>,
}

/// The last requests.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestLog {
    records: VecDeque<RequestRecord>,
    pub(super) made: u64,
}

/// What the engine found out about a request.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) response: Response<Bytes>,
    pub(super) items: usize,
    pub(super) accepted: usize,
    pub(super) errors: Vec<(usize, ItemError)>,
    pub(super) note: Option<String>,
    /// Whether the answer leaves the sandbox.
    pub(super) sent: bool,
    /// Whether a fault found something to choose or to spoil.
    pub(super) hit: bool,
}

impl Finding {
    /// Status of the answer; 0 if none is sent.
    pub(super) fn status(&self) -> u16 {
        if self.sent { self.response.status().as_u16() } else { 0 }
    }
}

impl From<Response<Bytes>> for Finding {
    fn from(response: Response<Bytes>) -> Self {
        Self {
            response,
            items: 0,
            accepted: 0,
            errors: Vec::new(),
            note: None,
            sent: true,
            hit: false,
        }
    }
}

impl RequestLog {
    pub(super) fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub(super) fn push(&mut self, record: RequestRecord, limit: usize) {
        while self.records.len() >= limit.max(1) {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &RequestRecord> {
        self.records.iter()
    }

    pub(super) fn get(&self, number: u64) -> Option<&RequestRecord> {
        self.records.iter().rev().find(|record| record.number == number)
    }

    /// Notes that the connection ended before the answer left; gives the status that it would have
    /// had, and the number of operations that were taken.
    pub(super) fn unsent(&mut self, number: u64) -> Option<(u16, usize)> {
        let mut records = self.records.iter_mut().rev();
        let record = records.find(|record| record.number == number && record.status != 0)?;
        let status = std::mem::take(&mut record.status);
        record.note = Some("the connection ended before the answer was sent".to_owned());
        Some((status, record.accepted))
    }
}

impl RequestRecord {
    /// A connection that was reset as soon as it was accepted.
    pub(super) fn reset_at_accept(number: u64, at: Seconds, fault: FaultRecord) -> Self {
        Self {
            number,
            at,
            method: String::new(),
            path: String::new(),
            headers: BTreeMap::new(),
            body: String::new(),
            body_bytes: 0,
            credential: None,
            status: 0,
            answer: String::new(),
            items: 0,
            accepted: 0,
            errors: Vec::new(),
            fault: Some(fault),
            note: None,
        }
    }

    pub(super) fn new(
        number: u64,
        at: Seconds,
        request: &Request<Bytes>,
        finding: &Finding,
        fault: Option<FaultRecord>,
        body_limit: usize,
    ) -> Self {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let shown = Shown::of(request.headers());
        let error = |(index, error): &(usize, ItemError)| ItemRecord {
            batch_index: *index,
            reason: error.reason.clone(),
            field: error.field.clone(),
            message: error.message.clone(),
        };
        Self {
            number,
            at,
            method: request.method().to_string(),
            path: path.to_owned(),
            headers: redacted(request.headers()),
            body: beginning(request.body(), body_limit),
            body_bytes: request.body().len(),
            credential: shown.map(|shown| shown.ending()),
            status: finding.status(),
            answer: beginning(finding.response.body(), body_limit),
            items: finding.items,
            accepted: finding.accepted,
            errors: finding.errors.iter().take(MOST_ERRORS).map(error).collect(),
            fault,
            note: finding.note.clone(),
        }
    }
}

fn beginning(body: &[u8], limit: usize) -> String {
    String::from_utf8_lossy(body.get(..limit).unwrap_or(body)).into_owned()
}

fn redacted(headers: &HeaderMap) -> BTreeMap<String, String> {
    let show = |name: &str, value: &str| match name {
        "authorization" => match Shown::of(headers) {
            Some(shown) => format!("Basic {}", shown.ending()),
            None => credentials::ending(value),
        },
        "cookie" | "proxy-authorization" => "…".to_owned(),
        _ => value.to_owned(),
    };
    headers
        .iter()
        .map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), show(name.as_str(), &text))
        })
        .collect()
}
