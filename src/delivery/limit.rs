//! How many requests may leave per second.
//!
//! The limit is Customer.io's fair use per workspace, so it counts requests of all kinds together.
//! A 429 that names no waiting time lowers the rate by 30 %; every calm minute raises it by 5 %, up to
//! the configured rate. Waiting here never turns into a loss.
//!
//! A lowered rate is not lowered further while so few requests leave that the next one would have let
//! all of them pass: then the rate is not the cause, and the back-off slows down what there is.
//! Otherwise an outage of ten minutes whose tries are answered 429 would leave a rate of about 2
//! instead of 100, and it would take 80 calm minutes to rise again.
//!
//! Nor is it lowered below a tenth of the configured one. 429s that come by chance, or by what others
//! send, come at any rate: one for every twentieth request would lower it for ever, and delivery
//! would all but stop. Where a tenth is still too much, the back-off slows down.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

const LOWER: f64 = 0.7;
const RAISE: f64 = 1.05;
/// Several requests in flight meet the same limit; together they lower the rate once.
const ONCE_PER: Duration = Duration::from_secs(1);
/// The lowest rate, as a share of the configured one.
const LEAST_SHARE: f64 = 0.1;
/// One request tells nothing about a rate.
const FEWEST: f64 = 2.0;
/// Rates are per second, so requests are counted within one.
const WINDOW: Duration = Duration::from_secs(1);
/// From the lowest rate to the configured one are fewer steps.
const MOST_STEPS: u32 = 1_000;

/// A limiter of requests, owned by the delivery task.
#[derive(Debug)]
pub struct Limiter {
    configured: f64,
    burst: u32,
    rate: f64,
    changed: Option<Instant>,
    /// After so long without another 429 a lowered rate rises.
    calm: Duration,
    /// When requests left, within the last [`WINDOW`].
    left: VecDeque<Instant>,
    quota: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Limiter {
    /// Makes a limiter of `requests_per_second`, of which `burst` may leave at once. Lowered, the
    /// rate rises by a step every `calm`.
    #[must_use]
    pub fn new(requests_per_second: u32, burst: u32, calm: Duration) -> Self {
        let rate = f64::from(requests_per_second.max(1));
        Self {
            configured: rate,
            burst,
            rate,
            changed: None,
            calm,
            left: VecDeque::new(),
            quota: RateLimiter::direct(quota(rate, burst)),
            clock: DefaultClock::default(),
        }
    }

    /// Returns the current rate in requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes the right to send one request.
    ///
    /// # Errors
    ///
    /// How long to wait, if there is none now.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.recover(now);
        self.quota.check().map_err(|until| until.wait_time_from(self.clock.now()))?;
        self.forget_old(now);
        self.left.push_back(now);
        Ok(())
    }

    fn forget_old(&mut self, now: Instant) {
        while self.left.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            self.left.pop_front();
        }
    }

    /// Takes other limits. A rate that was lowered stays so if it is below the new one, and recovers
    /// towards that; else it has nothing to say any more.
    pub fn retune(&mut self, requests_per_second: u32, burst: u32, now: Instant) {
        let configured = f64::from(requests_per_second.max(1));
        if configured == self.configured && burst == self.burst {
            return;
        }
        let lowered = self.rate < self.configured && self.rate < configured;
        (self.configured, self.burst) = (configured, burst);
        let changed = self.changed.filter(|_| lowered);
        self.set(if lowered { self.rate } else { configured }, now);
        self.changed = changed;
    }

    /// Raises a lowered rate once for each calm minute, also for those in which nothing was sent.
    pub fn recover(&mut self, now: Instant) {
        let Some(changed) = self.changed else { return };
        let calm = now.duration_since(changed);
        let steps = calm.as_millis() / self.calm.as_millis().max(1);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).min(MOST_STEPS);
        if steps == 0 {
            return;
        }
        let rate = (self.rate * RAISE.powf(f64::from(steps))).min(self.configured);
        self.set(rate, now);
        self.changed = (rate < self.configured).then(|| changed + self.calm * steps);
    }

    /// Returns when a lowered rate rises next.
    #[must_use]
    pub fn recovers_at(&self) -> Option<Instant> {
        self.changed.map(|changed| changed + self.calm)
    }

    /// Lowers the rate after a 429: from the configured one always, from a lowered one only if the next
    /// would have held back any of the last requests, and down to a tenth of the configured one.
    pub fn lower(&mut self, now: Instant) {
        let lowered = self.rate < self.configured;
        if lowered && self.changed.is_some_and(|at| now.duration_since(at) < ONCE_PER) {
            return;
        }
        let rate = (self.rate * LOWER).max(self.configured * LEAST_SHARE);
        self.forget_old(now);
        let few = (self.left.len() as f64) < rate.max(FEWEST);
        // A limit that was raised since may have a tenth above the rate.
        if lowered && (few || rate >= self.rate) {
            // Nor is this a calm minute.
            self.changed = Some(now);
            return;
        }
        self.set(rate, now);
        tracing::warn!(requests_per_second = rate, "Customer.io asks for fewer requests.");
    }

    fn set(&mut self, rate: f64, now: Instant) {
        self.rate = rate;
        self.changed = Some(now);
        let scaled = f64::from(self.burst) * rate / self.configured;
        self.quota = RateLimiter::direct(quota(rate, scaled as u32));
        // A new quota begins with a full burst, which is not what was asked for.
        let burst = NonZeroU32::new(scaled as u32).unwrap_or(NonZeroU32::MIN);
        let taken = self.quota.check_n(burst);
        debug_assert!(matches!(taken, Ok(Ok(()))), "a full burst can be taken at once");
    }
}

fn quota(rate: f64, burst: u32) -> Quota {
    let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
    let period = Duration::from_secs_f64(1.0 / rate.max(LEAST_SHARE));
    Quota::with_period(period)
        .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
        .allow_burst(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Duration = Duration::from_secs(60);

    #[test]
    fn a_burst_leaves_at_once_and_then_the_rate_holds() {
        let mut limiter = Limiter::new(1, 3, CALM);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take(now), Ok(()));
        }
        let wait = limiter.take(now).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
    }

    /// Lets as many requests have left as the rate allows.
    fn leave(limiter: &mut Limiter, now: Instant) {
        limiter.left.extend(std::iter::repeat_n(now, limiter.rate.ceil() as usize));
    }

    #[test]
    fn a_lowered_rate_is_lowered_further_only_if_it_could_be_the_cause() {
        let mut limiter = Limiter::new(100, 100, CALM);
        let begin = Instant::now();
        limiter.lower(begin);
        assert_eq!(limiter.rate(), 70.0, "whatever the cause");
        // One at a time, as in an outage.
        let mut now = begin;
        for _ in 0..200 {
            now += ONCE_PER;
            limiter.left.push_back(now);
            limiter.lower(now);
            limiter.recover(now + CALM / 2);
        }
        assert_eq!((limiter.rate(), limiter.left.len()), (70.0, 1));
        assert_eq!(limiter.recovers_at(), Some(now + CALM), "no minute with a 429 is calm");
        for (requests, rate) in [(48, 70.0), (49, 49.0)] {
            now += ONCE_PER;
            limiter.left.extend(std::iter::repeat_n(now, requests));
            limiter.lower(now);
            assert_eq!(limiter.rate(), rate);
        }
    }

    #[test]
    fn a_rate_is_not_lowered_below_a_tenth_of_the_configured_one() {
        let mut limiter = Limiter::new(100, 100, CALM);
        let mut now = Instant::now();
        for _ in 0..30 {
            now += ONCE_PER;
            leave(&mut limiter, now);
            limiter.lower(now);
        }
        assert_eq!(limiter.rate(), 10.0);
        assert_eq!(limiter.recovers_at(), Some(now + CALM), "no minute with a 429 is calm");
        limiter.retune(1000, 1000, now);
        now += ONCE_PER;
        // As a limit that was just lowered may leave them.
        limiter.left.extend(std::iter::repeat_n(now, 100));
        limiter.lower(now);
        assert_eq!(limiter.rate(), 10.0, "a 429 raises nothing");
    }

    #[test]
    fn a_single_request_at_a_time_does_not_lower_a_small_rate_further() {
        for configured in [1, 2] {
            let mut limiter = Limiter::new(configured, 1, CALM);
            let mut now = Instant::now();
            for _ in 0..30 {
                now += ONCE_PER * 10;
                limiter.left.push_back(now);
                limiter.lower(now);
            }
            assert_eq!(limiter.rate(), f64::from(configured) * LOWER);
        }
    }

    #[test]
    fn too_many_requests_lower_the_rate_once_and_take_the_burst_away() {
        let mut limiter = Limiter::new(100, 100, CALM);
        let now = Instant::now();
        limiter.lower(now);
        limiter.lower(now);
        assert_eq!(limiter.rate(), 70.0);
        assert!(limiter.take(now).is_err());
        leave(&mut limiter, now + ONCE_PER);
        limiter.lower(now + ONCE_PER);
        assert_eq!(limiter.rate(), 49.0);
    }

    #[test]
    fn another_limit_keeps_a_lowered_rate_that_is_below_it() {
        let now = Instant::now();
        for (configured, expected) in [(200, 70.0), (80, 70.0), (50, 50.0)] {
            let mut limiter = Limiter::new(100, 100, CALM);
            limiter.lower(now);
            limiter.retune(configured, 10, now);
            assert_eq!(limiter.rate(), expected);
            limiter.recover(now + CALM);
            let raised = (expected * RAISE).min(f64::from(configured));
            assert!((limiter.rate() - raised).abs() < 1e-9);
        }
        let mut limiter = Limiter::new(100, 100, CALM);
        limiter.retune(7, 1, now);
        assert_eq!(limiter.rate(), 7.0);
        assert!(limiter.take(now).is_err(), "a new limit is no new burst");
    }

    #[test]
    fn calm_minutes_raise_the_rate_up_to_the_configured_one() {
        let mut limiter = Limiter::new(100, 100, CALM);
        let now = Instant::now();
        limiter.lower(now);
        limiter.recover(now + CALM);
        assert!((limiter.rate() - 73.5).abs() < 1e-9);
        for minute in 2..20 {
            limiter.recover(now + CALM * minute);
        }
        assert_eq!(limiter.rate(), 100.0);
    }

    #[test]
    fn minutes_in_which_nothing_was_sent_raise_the_rate_by_a_step_each() {
        let mut limiter = Limiter::new(100, 100, CALM);
        let begin = Instant::now();
        for lowered in 0..3 {
            leave(&mut limiter, begin + ONCE_PER * lowered);
            limiter.lower(begin + ONCE_PER * lowered);
        }
        let last = begin + ONCE_PER * 2;
        let lowest = limiter.rate();
        let risen = |limiter: &Limiter, steps| {
            let expected = lowest * RAISE.powi(steps);
            assert!((limiter.rate() - expected).abs() < 1e-9, "{}", limiter.rate());
            assert_eq!(limiter.recovers_at(), Some(last + CALM * (steps as u32 + 1)));
        };
        // Half a minute counts towards the next step.
        for (half_minutes, steps) in [(1, 0), (21, 10), (21, 10), (22, 11)] {
            limiter.recover(last + CALM / 2 * half_minutes);
            risen(&limiter, steps);
        }
        limiter.recover(last + CALM * 1_000_000);
        assert_eq!((limiter.rate(), limiter.recovers_at()), (100.0, None));
    }
}
