//! The whole sandbox without sockets: a request in, an answer out.
//!
//! A request passes, in this order: fault rules, route, credentials, region, size, encoding, JSON,
//! validation, the workspace. [`Engine::begin`] decides about faults, so that a server can wait
//! before [`Engine::finish`] does the rest.

mod batch;
mod pipeline;

pub(super) use pipeline::MAX_READ_BYTES;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde::{Deserialize, Serialize};

use super::clock::{Clock, Seconds};
use super::credentials::Credential;
use super::fault::firing::{Faults, Fired};
use super::fault::{Reset, Rule};
use super::log::{Applied, FaultRecord, Finding, RequestLog, RequestRecord};
use super::options::{Options, Region};
use super::request::{Answer, Ending, Wire, set_header};
use super::workspace::view::Counts;
use super::workspace::{State, Workspace};
use super::{app_api, control};

/// Format of the snapshot file.
const SNAPSHOT_VERSION: u64 = 1;

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
    stats: Stats,
    seed: u64,
}

/// What was decided about a request before it is read closely.
#[derive(Debug)]
pub struct Plan {
    number: u64,
    at: Seconds,
    fired: Option<Fired>,
    before: Duration,
    after: Duration,
    is_control: bool,
}

impl Plan {
    /// How long to wait before the request is applied.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.before
    }
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

    /// Returns the snapshot that [`Engine::restore`] reads, in JSON.
    ///
    /// # Errors
    ///
    /// None in practice; JSON's.
    pub fn snapshot(&mut self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Snapshot<'a> {
            version: u64,
            workspace: &'a State,
        }
        let workspace = self.workspace().snapshot();
        serde_json::to_vec(&Snapshot { version: SNAPSHOT_VERSION, workspace })
    }

    /// Replaces the workspace's state by a snapshot.
    ///
    /// # Errors
    ///
    /// A text that says why it is none; nothing has changed then.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        #[derive(Deserialize)]
        struct Snapshot {
            #[serde(default)]
            workspace: State,
        }
        let version = serde_json::from_slice::<Version>(snapshot);
        if !version.is_ok_and(|given| given.version == SNAPSHOT_VERSION) {
            return Err(format!("expected a snapshot with `version` {SNAPSHOT_VERSION}"));
        }
        let read: Snapshot =
            serde_json::from_slice(snapshot).map_err(|error| format!("snapshot: {error}"))?;
        self.workspace.restore(read.workspace);
        Ok(())
    }

    /// Decides whether a connection that was just accepted is reset.
    pub fn accept(&mut self) -> bool {
        self.stats.connections += 1;
        let now = self.clock.now_millis();
        let Some(fired) = self.faults.for_connection(now) else { return false };
        let name = fired.effect.name();
        let fault = FaultRecord { rule: fired.rule, name, applied: Applied::No };
        self.count_fault(&fault);
        let (number, at) = (self.log.next_number(), Seconds::from_millis(now));
        let limit = self.workspace.options().log_requests;
        self.log.push(RequestRecord::reset_at_accept(number, at, fault), limit);
        true
    }

    /// Counts a connection that was closed at once because too many are open.
    pub fn refuse_connection(&mut self) {
        self.stats.connections_refused += 1;
    }

    /// Records a request whose connection ended before it was applied.
    pub fn abandon(&mut self, request: &Request<Bytes>, plan: Plan) {
        if plan.is_control {
            return;
        }
        let Plan { number, at, fired, .. } = plan;
        let finding = Finding {
            sent: false,
            note: Some("the connection ended before the request was applied".to_owned()),
            ..Finding::from(Response::new(Bytes::new()))
        };
        let fault = fired.map(|fired| FaultRecord {
            rule: fired.rule,
            name: fired.effect.name(),
            applied: Applied::No,
        });
        self.record(number, at, request, &finding, fault);
    }

    /// Records that the connection ended before the answer to a finished request left.
    pub fn unsent(&mut self, number: u64) {
        let Some((status, accepted)) = self.log.unsent(number) else { return };
        let statuses = &mut self.stats.statuses;
        if let Some(count) = statuses.get_mut(&status) {
            *count = count.saturating_sub(1);
        }
        statuses.retain(|_, count| *count > 0);
        *statuses.entry(0).or_default() += 1;
        self.stats.unacknowledged += u64::try_from(accepted).unwrap_or(u64::MAX);
    }

    /// Answers a request, with all waiting left to the caller (`wire.delay`).
    #[cfg(test)]
    pub fn handle(&mut self, request: Request<Bytes>) -> Answer {
        let plan = self.begin(&request);
        let before = plan.wait();
        let mut answer = self.finish(&request, plan);
        answer.wire.delay += before;
        answer
    }

    /// Numbers a request and decides about faults.
    pub fn begin(&mut self, request: &Request<Bytes>) -> Plan {
        let path = request.uri().path();
        if path.starts_with("/_sandbox/") || path.starts_with("/v1/") {
            return Plan {
                number: 0,
                at: self.clock.now(),
                fired: None,
                before: Duration::ZERO,
                after: Duration::ZERO,
                is_control: true,
            };
        }
        let now = self.clock.now_millis();
        let seen = super::fault::firing::seen(request);
        let mut fired = self.faults.for_request(&seen, request.headers(), now);
        let (mut before, mut after) = (Duration::ZERO, Duration::ZERO);
        if let Some(Fired { effect, random, .. }) = &mut fired
            && let Some(latency) = &effect.latency
        {
            let wait = latency.draw(random);
            *(if latency.after { &mut after } else { &mut before }) = wait;
        }
        Plan {
            number: self.log.next_number(),
            at: Seconds::from_millis(now),
            fired,
            before,
            after,
            is_control: false,
        }
    }

    /// Does what the plan says and answers.
    pub fn finish(&mut self, request: &Request<Bytes>, plan: Plan) -> Answer {
        self.workspace.settle(self.clock.now());
        if plan.is_control {
            let response = if request.uri().path().starts_with("/v1/") {
                app_api::answer(self, request)
            } else {
                control::answer(self, request)
            };
            return Answer { response, wire: Wire::default(), number: 0 };
        }
        let Plan { number, at, mut fired, after, .. } = plan;
        let (finding, applied) = self.find(request, number, at, fired.as_mut());
        if let Some(idle) = fired.take_if(|fired| fired.effect.is_selective() && !finding.hit) {
            idle.did_nothing();
        }
        let fault = fired.as_ref().map(|fired| FaultRecord {
            rule: fired.rule,
            name: fired.effect.name(),
            applied,
        });
        let wire = wire(fired.as_ref(), after);
        if !matches!(wire.ending, Ending::Whole | Ending::Slow(_)) {
            self.stats.unacknowledged += u64::try_from(finding.accepted).unwrap_or(u64::MAX);
        }
        self.record(number, at, request, &finding, fault);

        let mut response = finding.response;
        set_header(&mut response, "x-sandbox-request", &number.to_string());
        Answer { response, wire, number }
    }

    fn record(
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

    /// The fixed answer of a fault, or what the API says.
    fn find(
        &mut self,
        request: &Request<Bytes>,
        number: u64,
        at: Seconds,
        fired: Option<&mut Fired>,
    ) -> (Finding, Applied) {
        let Some(fired) = fired else {
            return (self.pipeline(request, number, at, None), Applied::Yes);
        };
        let resets = fired.effect.reset == Some(Reset::AfterRequest);
        if let Some(response) = fired.effect.fixed(self.clock.now_millis()) {
            return (Finding { sent: !resets, ..response.into() }, Applied::No);
        }
        if fired.effect.hang {
            let nothing = Finding::from(Response::new(Bytes::new()));
            return (Finding { sent: false, ..nothing }, Applied::No);
        }
        let chooses_items = fired.effect.items.is_some() || fired.effect.items_in_200.is_some();
        let effect = fired.effect.clone();
        let mut finding = self.pipeline(request, number, at, Some(fired));
        finding.sent = !resets;
        let applied = match finding.accepted {
            0 => Applied::No,
            _ if chooses_items && !finding.errors.is_empty() => Applied::Items,
            _ => Applied::Yes,
        };
        if let Some(bad) = effect.bad_errors
            && request.uri().path().starts_with("/api/v2/")
            && finding.response.status().is_success()
        {
            finding.response = bad.answer(finding.items);
            finding.hit = true;
        }
        (finding, applied)
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

    fn count_fault(&mut self, fault: &FaultRecord) {
        *self.stats.faults.entry(fault.name.clone()).or_default() += 1;
        *self.stats.faults_applied.entry(fault.applied).or_default() += 1;
    }
}

fn wire(fired: Option<&Fired>, delay: Duration) -> Wire {
    let Some(Fired { effect, .. }) = fired else { return Wire::default() };
    let ending = if effect.hang {
        Ending::Hang
    } else {
        match (effect.reset, effect.slow_body) {
            (Some(Reset::MidResponse), _) => Ending::ResetMidway,
            (Some(_), _) => Ending::Reset,
            (None, Some(slow)) => Ending::Slow(slow.0.0),
            (None, None) => Ending::Whole,
        }
    };
    Wire { delay, ending, close_idle: effect.close_idle.map(|span| span.0) }
}

#[cfg(test)]
mod tests;
