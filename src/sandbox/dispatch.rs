//! From a request to its answer.
//!
//! A request passes, in this order: fault rules, route, credentials, region, size, encoding, JSON,
//! validation, the workspace. [`Engine::begin`] decides about faults, so that a server can wait
//! before [`Engine::finish`] does the rest. Reads of the App API and control meet no faults, and are
//! not on record.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use super::clock::Seconds;
use super::engine::Engine;
use super::fault::Reset;
use super::fault::firing::{Fired, seen};
use super::log::{Applied, FaultRecord, Finding, RequestRecord};
use super::request::{Answer, Ending, Wire, set_header};
use super::{app_api, control};

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
        let seen = seen(request);
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
