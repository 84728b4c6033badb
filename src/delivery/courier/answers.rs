//! What an answer does to a parcel, and what it says about the destination.

use tokio::time::Instant;

use super::super::order::Slot;
use super::super::parcel::Parcel;
use super::super::progress::{Ending, refused};
use super::super::retry::{asked_wait, full_jitter};
use super::super::{Refusal, Reply, Verdict, metering};
use super::fetching::Landing;
use super::parting::{Company, parts_of};
use super::{Courier, Flight, Flown};
use crate::outcome::{Reason, ReasonCode};

/// So many failures in a row are worth a message.
const OUTAGE: u32 = 3;

/// Code of a request that ended in a panic.
const PANIC: &str = "panic";

/// Code of the answer that asks for fewer requests.
const TOO_MANY: &str = "http_429";

impl Courier {
    /// Takes the answer to a request.
    pub(super) fn landed(&mut self, flown: Flown, now: Instant) {
        let (id, landing) = match flown {
            Ok((id, landing)) => (id, landing),
            Err(error) => {
                // Only a defect of ours can end a request so. It is treated like a broken
                // connection, so that a single operation that causes it becomes a suspect. The
                // text of the panic may quote an event: it must not get into the log.
                tracing::error!("A request ended in a panic.");
                let reply = Reply::Retry { after: None, why: PANIC, unknown: true };
                (error.id(), Landing::Answered(reply))
            }
        };
        let Some(flight) = self.under_way.remove(&id) else { return };
        let Flight { mut parcel, generation, fetches } = flight;
        match landing {
            Landing::Unfetched(error) => self.unfetched(parcel, generation, &error, now),
            Landing::Answered(reply) => {
                if fetches {
                    self.fetched();
                }
                let counts = is_attempt(&reply);
                parcel.flown(counts, matches!(reply, Reply::Retry { why: PANIC, .. }));
                for &slot in parcel.first() {
                    if let Some(load) = self.book.get_mut(slot) {
                        load.attempts = load.attempts.saturating_add(u16::from(counts));
                    }
                }
                self.answered(parcel, reply, generation, now);
            }
        }
    }

    fn answered(&mut self, parcel: Parcel, reply: Reply, generation: u64, now: Instant) {
        match reply {
            Reply::Doubtful(reply) => {
                self.note_unknown(&parcel);
                self.answered(parcel, *reply, generation, now);
            }
            Reply::Items(verdicts) => self.accepted(parcel, verdicts, now),
            Reply::Split(refusal) => self.refused(parcel, refusal, now),
            Reply::Retry { after, why, unknown } => {
                metering::retry(why);
                self.last_failure = why;
                if unknown {
                    self.note_unknown(&parcel);
                }
                match after {
                    Some(after) => {
                        self.gate.asked(asked_wait(after, self.pace.least_asked_wait), now);
                        self.shelve(parcel, now, now);
                    }
                    None => {
                        let reached = unknown || why.starts_with("http_");
                        self.failed(parcel, generation, why, reached, now);
                    }
                }
            }
            Reply::Hold(hold) => {
                self.hold(hold, now);
                self.holding.refused(now);
                self.shelve(parcel, now, now);
            }
        }
    }

    /// Takes the verdicts on each operation of a part.
    fn accepted(&mut self, mut parcel: Parcel, verdicts: Vec<Verdict>, now: Instant) {
        self.destination_works();
        self.successes += 1;
        self.working.success(now);
        self.holding.delivered();
        let part = parcel.parts.pop_front().unwrap_or_default();
        let mut verdicts = verdicts.into_iter();
        let (mut left, mut later): (Vec<(Slot, Company)>, Vec<Slot>) = Default::default();
        let (mut delivered, mut rejected) = (0_u64, 0_u64);
        for &slot in &part {
            // An answer without a word about an operation says nothing about it.
            match verdicts.next().unwrap_or(Verdict::Unknown) {
                Verdict::Delivered => {
                    delivered += 1;
                    self.end(slot, Ending::Delivered, now);
                }
                Verdict::Rejected(refusal) => {
                    rejected += 1;
                    self.end(slot, refused(refusal), now);
                }
                Verdict::Again => left.push((slot, Company::Any)),
                Verdict::Later(refusal) if self.is_expired(slot) => {
                    rejected += 1;
                    self.end(slot, expired(refusal), now);
                }
                Verdict::Later(_) => {
                    self.note_failing(slot);
                    left.push((slot, Company::Later));
                    later.push(slot);
                }
                Verdict::Unknown => {
                    if let Some(load) = self.book.get_mut(slot) {
                        load.unknown = true;
                    }
                    left.push((slot, Company::None));
                }
            }
        }
        metering::sent(delivered);
        if rejected > 0 {
            parcel.culprit();
        }
        if !left.is_empty() {
            metering::retry(if later.is_empty() { "unknown" } else { "item" });
        }
        if !later.is_empty() {
            self.put_off(parcel, left, &later, now);
            return;
        }
        // Without progress (a single operation that stays unknown) the parcel must not go round at
        // full speed.
        let again = parts_of(left);
        let stuck =
            again.len() == 1 && again.first().is_some_and(|slots| slots.len() == part.len());
        for slots in again.into_iter().rev() {
            parcel.parts.push_front(slots);
        }
        if stuck {
            self.stuck(parcel, now);
        } else {
            parcel.part_passed(part.len(), rejected > 0);
            self.forward(parcel, now);
        }
    }

    /// Takes note that a part is as it was, although Customer.io works.
    fn stuck(&mut self, mut parcel: Parcel, now: Instant) {
        if parcel.first().len() == 1 && parcel.first().iter().any(|slot| self.is_expired(*slot)) {
            self.give_up(parcel, "unknown", now);
            return;
        }
        for &slot in parcel.first() {
            self.note_failing(slot);
        }
        let wait = parcel.strike(self.successes, &self.retry);
        if parcel.is_suspect() {
            self.wait_apart(parcel, wait, now);
        } else {
            self.shelve(parcel, now + wait, now);
        }
    }

    /// Takes the refusal of a whole part.
    fn refused(&mut self, mut parcel: Parcel, refusal: Refusal, now: Instant) {
        self.destination_works();
        if parcel.first().len() > 1 {
            metering::retry("split");
            parcel.halve(true);
        } else {
            parcel.culprit();
            for slot in parcel.parts.pop_front().unwrap_or_default() {
                self.end(slot, refused(refusal.clone()), now);
            }
        }
        self.forward(parcel, now);
    }

    /// Takes a failure that says nothing about the operations; `reached` tells whether they may have
    /// come as far as Customer.io.
    fn failed(
        &mut self,
        mut parcel: Parcel,
        generation: u64,
        why: &'static str,
        reached: bool,
        now: Instant,
    ) {
        let single = parcel.first().len() == 1;
        if why == TOO_MANY {
            self.limiter.lower(now);
            self.destination_fails(generation, why, now);
            let wait = full_jitter(1, &self.retry);
            self.shelve(parcel, now + wait, now);
            return;
        }
        metering::failed(1);
        for &slot in parcel.first() {
            self.note_failing(slot);
        }
        let wait = parcel.strike(self.successes, &self.retry);
        if !parcel.is_suspect() {
            self.destination_fails(generation, why, now);
            // Where nothing came through, no operation can be the cause.
            if reached && parcel.keeps_failing() {
                if !single {
                    parcel.halve(false);
                }
                // Apart, so that the parts take turns.
                let first = parcel.first().to_vec();
                if let Some(others) = self.part_from(&first, &mut parcel) {
                    self.shelve(others, now + wait, now);
                }
            }
            self.shelve(parcel, now + wait, now);
            return;
        }
        // The others pass and this one does not: it must not make them wait.
        self.gate.untried(generation, now);
        if !single {
            parcel.halve(false);
            self.shelve(parcel, now, now);
        } else if parcel.is_defective() {
            tracing::error!("An operation that cannot be sent for a defect of ours is rejected.");
            parcel.culprit();
            let detail = "a defect of rudder-customerio ends every request with it";
            let reason = Reason::new(ReasonCode::Internal, detail);
            for slot in parcel.parts.pop_front().unwrap_or_default() {
                self.end(slot, Ending::Rejected(reason.clone(), Refusal::default()), now);
            }
            self.forward(parcel, now);
        } else if parcel.first().iter().any(|slot| self.is_expired(*slot)) {
            self.give_up(parcel, why, now);
        } else {
            self.wait_apart(parcel, wait, now);
        }
    }

    /// Gives up the first part of a parcel.
    fn give_up(&mut self, mut parcel: Parcel, why: &'static str, now: Instant) {
        parcel.culprit();
        for slot in parcel.parts.pop_front().unwrap_or_default() {
            let message = Some(format!("last failure: {why}"));
            self.end(slot, expired(Refusal { message, ..Refusal::default() }), now);
        }
        self.forward(parcel, now);
    }

    /// Sends what is left of a parcel, or takes leave of it.
    fn forward(&mut self, parcel: Parcel, now: Instant) {
        if !parcel.parts.is_empty() {
            self.shelve(parcel, now, now);
        } else if let Some(passed) = parcel.refused_for_size() {
            self.item_limit.refused_for_size(passed, now);
        }
    }

    /// Notes that what was sent of a parcel may have been applied.
    fn note_unknown(&mut self, parcel: &Parcel) {
        for &slot in parcel.first() {
            if let Some(load) = self.book.get_mut(slot) {
                load.unknown = true;
            }
        }
    }

    fn note_failing(&mut self, slot: Slot) {
        self.failing_since.entry(slot).or_insert(self.working.total());
    }

    fn is_expired(&self, slot: Slot) -> bool {
        self.failing_since.get(&slot).is_some_and(|since| {
            self.working.total().saturating_sub(*since) >= self.retry.give_up_after
        })
    }

    fn destination_works(&mut self) {
        if self.gate.works() >= OUTAGE {
            tracing::info!("Customer.io takes requests again.");
        }
    }

    fn destination_fails(&mut self, generation: u64, why: &'static str, now: Instant) {
        if self.gate.fails(generation, &self.retry, now) == Some(OUTAGE) {
            tracing::warn!(reason = why, "Customer.io takes no requests; delivery waits.");
        }
    }
}

/// Tells whether a request counts as one. Customer.io looked at none of its operations if it only
/// asked for fewer requests, or for later ones.
fn is_attempt(reply: &Reply) -> bool {
    !matches!(reply, Reply::Retry { after: Some(_), .. } | Reply::Retry { why: TOO_MANY, .. })
}

fn expired(refusal: Refusal) -> Ending {
    let reason = Reason::new(
        ReasonCode::Expired,
        "kept failing for `retry.give_up_after` while others were delivered",
    );
    Ending::Rejected(reason, refusal)
}
