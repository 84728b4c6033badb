//! The sandbox without sockets: what it is, what it stores, and what it has counted.
//!
//! What becomes of a request stands in [`dispatch`](super::dispatch); the Track API itself in
//! `pipeline` and `batch`.

mod batch;
mod pipeline;
mod snapshot;

pub(super) use pipeline::MAX_READ_BYTES;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Request;
use serde::{Deserialize, Serialize};

use super::clock::{Clock, Seconds};
use super::credentials::Credential;
use super::fault::Rule;
use super::fault::firing::Faults;
use super::log::{Applied, FaultRecord, Finding, RequestLog, RequestRecord};
use super::options::{Options, Region};
use super::workspace::Workspace;
use super::workspace::view::Counts;

/// What the sandbox is, beside its switches.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The region whose host it stands for.
    pub region: Region,
    /// The workspace of credentials that name none.
    pub environment_id: u64,
    /// The credentials that are accepted; empty: every complete pair.
    pub credentials: Vec<Credential>,
    /// Bearer token for `/_sandbox/`; without one it is for this machine only.
    pub control_token: Option<secrecy::SecretString>,
}

impl Default for Identity {
    fn default() -> Self {
        Self { region: Region::Us, environment_id: 1, credentials: Vec::new(), control_token: None }
    }
}

/// Counters since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Requests to the Track API.
    pub requests: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Requests by status of the answer; 0: none was sent.
    pub statuses: BTreeMap<u16, u64>,
    /// Connections that were closed at once because too many were open.
    pub connections_refused: u64,
    /// Faults that were applied, by name.
    pub faults: BTreeMap<String, u64>,
    /// The same faults, by how much of the request was applied.
    pub faults_applied: BTreeMap<Applied, u64>,
    /// Operations that were taken.
    pub accepted: u64,
    /// Operations that were refused.
    pub refused: u64,
    /// Operations among `accepted` whose answer did not leave whole: taken, but not acknowledged.
    pub unacknowledged: u64,
    /// Counts of the workspace.
    pub workspace: Counts,
}

/// The sandbox without sockets.
#[derive(Debug)]
pub struct Engine {
    pub(super) identity: Identity,
    pub(super) workspace: Workspace,
    pub(super) faults: Faults,
    pub(super) log: RequestLog,
    pub(super) clock: Clock,
    pub(super) stats: Stats,
    pub(super) seed: u64,
}

impl Engine {
    /// Makes an engine with an empty workspace.
    #[must_use]
    pub fn new(identity: Identity, options: Options, seed: u64, clock: Clock) -> Self {
        let faults = Faults::new(Vec::new(), seed, clock.now_millis());
        Self {
            identity,
            workspace: Workspace::new(options, seed),
            faults,
            log: RequestLog::default(),
            clock,
            stats: Stats::default(),
            seed,
        }
    }

    /// Returns the workspace as it is now.
    pub fn workspace(&mut self) -> &mut Workspace {
        self.workspace.settle(self.clock.now());
        &mut self.workspace
    }

    /// Returns the clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Replaces the fault rules; their spans and counts start now.
    pub fn set_faults(&mut self, rules: Vec<Rule>) {
        self.faults = Faults::new(rules, self.seed, self.clock.now_millis());
    }

    /// Forgets everything but switches, credentials, and fault rules; the rules start again.
    pub fn reset(&mut self) {
        self.workspace.clear();
        self.log = RequestLog::default();
        self.stats = Stats::default();
        self.set_faults(self.faults.rules().cloned().collect());
    }

    /// Returns the counters.
    pub fn stats(&mut self) -> Stats {
        let workspace = self.workspace().counts();
        Stats { workspace, ..self.stats.clone() }
    }

    /// Returns the logged requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.log.iter().cloned().collect()
    }

    /// Counts a connection that was closed at once because too many are open.
    pub fn refuse_connection(&mut self) {
        self.stats.connections_refused += 1;
    }

    /// Counts a request and logs it.
    pub(super) fn record(
        &mut self,
        number: u64,
        at: Seconds,
        request: &Request<Bytes>,
        finding: &Finding,
        fault: Option<FaultRecord>,
    ) {
        self.count(finding, fault.as_ref());
        let options = self.workspace.options();
        let (bytes, limit) = (options.log_body_bytes, options.log_requests);
        let record = RequestRecord::new(number, at, request, finding, fault, bytes);
        self.log.push(record, limit);
    }

    fn count(&mut self, finding: &Finding, fault: Option<&FaultRecord>) {
        let stats = &mut self.stats;
        stats.requests += 1;
        *stats.statuses.entry(finding.status()).or_default() += 1;
        stats.accepted += u64::try_from(finding.accepted).unwrap_or(u64::MAX);
        stats.refused += u64::try_from(finding.errors.len()).unwrap_or(u64::MAX);
        if let Some(fault) = fault {
            self.count_fault(fault);
        }
    }

    pub(super) fn count_fault(&mut self, fault: &FaultRecord) {
        *self.stats.faults.entry(fault.name.clone()).or_default() += 1;
        *self.stats.faults_applied.entry(fault.applied).or_default() += 1;
    }
}
