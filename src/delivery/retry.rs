//! When to try again: the destination's back-off, holds and their probes, and the clock of giving up.
//!
//! The back-off belongs to the destination, not to an operation: when Customer.io is in trouble,
//! nobody's requests help. After the wait one request alone goes first; its success opens the way
//! for all. A wait that Customer.io asked for is shared by all requests, too.
//!
//! Nothing is given up by number of attempts. An operation expires when it has been failing for
//! `give_up_after` of the time during which the destination worked; outages, holds, and pauses stop
//! that clock. An operation that is the only traffic and keeps failing does not expire either: as
//! nothing else succeeds, there is no telling it from an outage.

use std::time::Duration;

use tokio::time::Instant;

use super::Hold;
use crate::config::RetryConfig;

/// Returns a uniformly random wait up to `initial · 2^(failures − 1)`, at most `max`.
#[must_use]
pub fn full_jitter(failures: u32, config: &RetryConfig) -> Duration {
    let factor = 2_f64.powi(failures.saturating_sub(1).min(64) as i32);
    let bound = (config.initial.as_secs_f64() * factor).min(config.max.as_secs_f64());
    Duration::from_secs_f64(bound * fastrand::f64())
}

/// Returns the wait for a `Retry-After`: at least `least`, and up to a tenth more, so that not every
/// process comes back at the same moment.
#[must_use]
pub fn asked_wait(after: Duration, least: Duration) -> Duration {
    after.max(least).mul_f64(1.0 + 0.1 * fastrand::f64())
}

/// Whether requests may leave, as far as the destination's health decides.
#[derive(Debug)]
pub struct Gate {
    state: State,
    /// Before this nothing leaves, because Customer.io asked for it.
    asked: Option<Instant>,
    failures: u32,
    /// Grows with each step, so that requests that left before a step do not cause another.
    generation: u64,
}

#[derive(Debug)]
enum State {
    Open,
    /// Closed until then; afterwards one request may try.
    Shut(Instant),
    /// One request is trying.
    Trying,
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: State::Open, asked: None, failures: 0, generation: 0 }
    }
}

impl Gate {
    /// Lets a request through, if one may leave now; returns what to hand back with its answer.
    pub fn pass(&mut self, now: Instant) -> Option<u64> {
        if self.asked.is_some_and(|until| now < until) {
            return None;
        }
        match self.state {
            State::Open => Some(self.generation),
            State::Shut(until) if until <= now => {
                self.state = State::Trying;
                Some(self.generation)
            }
            State::Shut(_) | State::Trying => None,
        }
    }

    /// Tells whether [`Gate::pass`] would let a request through.
    #[must_use]
    pub fn is_open(&self, now: Instant) -> bool {
        self.asked.is_none_or(|until| until <= now)
            && match self.state {
                State::Open => true,
                State::Shut(until) => until <= now,
                State::Trying => false,
            }
    }

    /// Tells whether the next request that passes tries for all.
    #[must_use]
    pub fn is_trial(&self) -> bool {
        matches!(self.state, State::Shut(_))
    }

    /// Returns until when nothing leaves, if that is known.
    #[must_use]
    pub fn opens_at(&self, now: Instant) -> Option<Instant> {
        let shut = match self.state {
            State::Shut(until) => Some(until),
            State::Open | State::Trying => None,
        };
        shut.max(self.asked).filter(|until| *until > now)
    }

    /// Notes an answer that shows that the destination works, and returns how many failures in a
    /// row it ends. What was asked for still holds.
    pub fn works(&mut self) -> u32 {
        if !matches!(self.state, State::Open) {
            self.generation += 1;
        }
        self.state = State::Open;
        std::mem::take(&mut self.failures)
    }

    /// Notes a failure of a request that passed with `generation`; returns the failures in a row,
    /// if it is a new one.
    pub fn fails(&mut self, generation: u64, config: &RetryConfig, now: Instant) -> Option<u32> {
        if generation != self.generation {
            return None;
        }
        self.generation += 1;
        self.failures = self.failures.saturating_add(1);
        self.state = State::Shut(now + full_jitter(self.failures, config));
        Some(self.failures)
    }

    /// Notes that Customer.io asked to wait.
    pub fn asked(&mut self, wait: Duration, now: Instant) {
        self.asked = self.asked.max(Some(now + wait));
        if matches!(self.state, State::Trying) {
            self.state = State::Shut(now + wait);
        }
    }

    /// Lets the back-off end at `latest`; what Customer.io asked for still holds.
    pub fn hasten(&mut self, latest: Instant) {
        if let State::Shut(until) = &mut self.state {
            *until = latest.min(*until);
        }
    }

    /// Lets one request alone go first, after a hold.
    pub fn try_one(&mut self, now: Instant) {
        self.generation += 1;
        self.state = State::Shut(now);
    }

    /// Notes that a request that passed with `generation` ended without telling anything.
    pub fn untried(&mut self, generation: u64, now: Instant) {
        if generation == self.generation && matches!(self.state, State::Trying) {
            self.state = State::Shut(now);
        }
    }
}

/// The time during which the destination worked.
///
/// The time between two successes counts, but at most `cap` of it: so an outage of any length
/// counts as little as one back-off.
#[derive(Debug)]
pub struct WorkingTime {
    total: Duration,
    last: Option<Instant>,
    cap: Duration,
}

impl WorkingTime {
    /// Begins at zero.
    #[must_use]
    pub fn new(cap: Duration) -> Self {
        Self { total: Duration::ZERO, last: None, cap }
    }

    /// Takes another cap.
    pub fn set_cap(&mut self, cap: Duration) {
        self.cap = cap;
    }

    /// Notes a success.
    pub fn success(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.total += now.duration_since(last).min(self.cap);
        }
    }

    /// Notes the begin of a hold or a pause.
    pub fn stop(&mut self) {
        self.last = None;
    }

    /// Returns the time so far.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }
}

/// A hold and the plan of its probes.
///
/// The pauses between probes grow until data has been delivered again, also when the probe itself
/// is answered well in between.
#[derive(Debug)]
pub struct Holding {
    first: Duration,
    longest: Duration,
    hold: Option<Hold>,
    probes: u32,
    probe_at: Option<Instant>,
    /// When Customer.io last refused data.
    refused_at: Option<Instant>,
    /// Code of a hold that was lifted for a single try.
    lifted: Option<&'static str>,
}

impl Holding {
    /// Makes a plan with the first and the longest pause between probes.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            hold: None,
            probes: 0,
            probe_at: None,
            refused_at: None,
            lifted: None,
        }
    }

    /// Returns the reason of the hold.
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// Begins or renews a hold; tells whether it is news.
    pub fn begin(&mut self, hold: Hold, now: Instant) -> bool {
        let known = self.hold.as_ref().map(|known| known.code).or(self.lifted.take());
        let news = known != Some(hold.code);
        if self.hold.is_none() {
            self.plan(now);
        }
        self.hold = Some(hold);
        news
    }

    /// Notes that a request with data was refused.
    pub fn refused(&mut self, now: Instant) {
        self.refused_at = Some(now);
    }

    /// Tells whether data is to be tried although the probe is refused: a workspace that is
    /// `forbidden` to ask for its account may be allowed to send again.
    #[must_use]
    pub fn should_try_data(&self, every: Duration, now: Instant) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.code == "forbidden")
            && self.refused_at.is_none_or(|at| now.duration_since(at) >= every)
    }

    /// Ends the hold for a single try; the same hold is no news then.
    pub fn lift(&mut self) -> Option<Hold> {
        let hold = self.end();
        self.lifted = hold.as_ref().map(|hold| hold.code);
        hold
    }

    /// Plans the next probe.
    pub fn plan(&mut self, now: Instant) {
        let pause = self.first.saturating_mul(1 << self.probes.min(16)).min(self.longest);
        self.probes = self.probes.saturating_add(1);
        self.probe_at = Some(now + pause);
    }

    /// Returns when to probe next.
    #[must_use]
    pub fn probe_at(&self) -> Option<Instant> {
        self.hold.as_ref().and(self.probe_at)
    }

    /// Asks for a probe at once.
    pub fn probe_now(&mut self, now: Instant) {
        self.probe_at = Some(now);
    }

    /// Takes note that the probe has left.
    pub fn probing(&mut self) {
        self.probe_at = None;
    }

    /// Ends the hold.
    pub fn end(&mut self) -> Option<Hold> {
        self.probe_at = None;
        self.hold.take()
    }

    /// Notes that data was delivered: the next hold begins with short pauses again.
    pub fn delivered(&mut self) {
        self.probes = 0;
        self.lifted = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> RetryConfig {
        RetryConfig {
            initial: SECOND,
            max: Duration::from_secs(300),
            give_up_after: Duration::from_secs(86_400),
            statuses: vec![],
            item_reasons: vec![],
        }
    }

    #[test]
    fn jitter_is_full_and_bounded() {
        for failures in [1, 2, 5, 40, u32::MAX] {
            let bound = Duration::from_secs(1 << (failures - 1).min(9)).min(config().max);
            let waits: Vec<_> = (0..200).map(|_| full_jitter(failures, &config())).collect();
            assert!(waits.iter().all(|w| *w <= bound));
            assert!(waits.iter().any(|w| *w < bound / 4), "not full: {failures}");
            assert!(waits.iter().any(|w| *w > bound / 2), "too short: {failures}");
        }
    }

    #[test]
    fn an_asked_wait_is_kept_and_hardly_longer() {
        for (after, least) in [(0, 1), (7, 7)] {
            let wait = asked_wait(Duration::from_secs(after), SECOND);
            let least = Duration::from_secs(least);
            assert!(wait >= least && wait <= least.mul_f64(1.1), "{wait:?}");
        }
    }

    #[test]
    fn after_the_wait_one_request_goes_first() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let first = gate.pass(now).unwrap();
        gate.fails(first, &config(), now);
        let later = now + 2 * SECOND;
        assert!(gate.pass(later).is_some());
        assert!(gate.pass(later).is_none());
        gate.works();
        assert!(gate.pass(later).is_some() && gate.pass(later).is_some());
    }

    #[test]
    fn requests_that_fail_together_are_one_failure() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let passed: Vec<_> = (0..8).map(|_| gate.pass(now).unwrap()).collect();
        for generation in passed {
            gate.fails(generation, &config(), now);
        }
        assert_eq!(gate.failures, 1);
    }

    #[test]
    fn success_does_not_shorten_a_wait_that_was_asked_for() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        gate.asked(5 * SECOND, now);
        gate.works();
        assert!(gate.pass(now + 4 * SECOND).is_none());
        assert_eq!(gate.opens_at(now), Some(now + 5 * SECOND));
        assert!(gate.pass(now + 5 * SECOND).is_some());
    }

    #[test]
    fn an_outage_and_a_hold_stop_the_clock_of_giving_up() {
        let now = Instant::now();
        let mut time = WorkingTime::new(5 * SECOND);
        time.success(now);
        time.success(now + 2 * SECOND);
        time.success(now + 3600 * SECOND);
        assert_eq!(time.total(), 7 * SECOND);
        time.stop();
        time.success(now + 7200 * SECOND);
        assert_eq!(time.total(), 7 * SECOND);
    }

    #[test]
    fn probes_grow_apart_until_data_is_delivered() {
        let now = Instant::now();
        let hold = |code| Hold { code, message: String::new() };
        let mut holding = Holding::new(5 * SECOND, 300 * SECOND);
        assert!(holding.begin(hold("forbidden"), now));
        assert!(!holding.begin(hold("forbidden"), now));
        assert_eq!(holding.probe_at(), Some(now + 5 * SECOND));
        assert!(holding.end().is_some());
        assert!(holding.begin(hold("forbidden"), now));
        assert_eq!(holding.probe_at(), Some(now + 10 * SECOND));
        for _ in 0..20 {
            holding.plan(now);
        }
        assert_eq!(holding.probe_at(), Some(now + 300 * SECOND));
        holding.end();
        holding.delivered();
        assert!(holding.begin(hold("unauthorized"), now));
        assert_eq!(holding.probe_at(), Some(now + 5 * SECOND));
    }

    #[test]
    fn what_is_forbidden_is_tried_with_data_every_so_often_whatever_the_probe_says() {
        let now = Instant::now();
        let hold = |code| Hold { code, message: String::new() };
        let mut holding = Holding::new(5 * SECOND, 300 * SECOND);
        holding.begin(hold("forbidden"), now);
        holding.refused(now);
        assert!(!holding.should_try_data(300 * SECOND, now + 299 * SECOND));
        assert!(holding.should_try_data(300 * SECOND, now + 300 * SECOND));
        assert!(holding.lift().is_some());
        assert!(!holding.begin(hold("forbidden"), now), "no news");
        holding.begin(hold("unauthorized"), now);
        assert!(!holding.should_try_data(300 * SECOND, now + 300 * SECOND));
    }

    #[test]
    fn a_shorter_longest_back_off_ends_a_wait_but_not_one_that_was_asked_for() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let generation = gate.pass(now).unwrap();
        gate.fails(generation, &RetryConfig { initial: 300 * SECOND, ..config() }, now);
        gate.hasten(now);
        assert!(gate.is_open(now));
        gate.asked(5 * SECOND, now);
        gate.hasten(now);
        assert!(!gate.is_open(now + 4 * SECOND));
    }
}
