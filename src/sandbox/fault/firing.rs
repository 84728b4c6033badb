//! Which rule fires for a request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request};
use serde::Serialize;

use super::matching::Seen;
use super::{Effect, Items, RateLimit, Reset, Rule};
use crate::sandbox::credentials::Shown;
use crate::sandbox::options::Span;

/// Credentials whose buckets a rule keeps; full ones are forgotten beyond it, which changes nothing.
const MANY_BUCKETS: usize = 1000;

/// The rules with their counters.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Faults {
    rules: Vec<Armed>,
    seed: u64,
    /// When the rules were set, Unix milliseconds.
    since: i64,
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    matched: u64,
    fired: Arc<AtomicU64>,
    buckets: HashMap<u64, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: i64,
}

/// A rule in force, with its counts since the rules were set.
#[derive(Debug, Serialize)]
pub(in crate::sandbox) struct InForce<'a> {
    #[serde(flatten)]
    rule: &'a Rule,
    counts: Counts,
}

#[derive(Debug, Serialize)]
struct Counts {
    /// Requests, or connections, that the rule was tried for.
    matched: u64,
    /// How often it fired and did something.
    fired: u64,
}

/// A rule that fires.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Fired {
    /// Position of the rule.
    pub(in crate::sandbox) rule: usize,
    pub(in crate::sandbox) effect: Effect,
    /// Decides what the effect leaves to chance.
    pub(in crate::sandbox) random: fastrand::Rng,
    count: Arc<AtomicU64>,
}

impl Fired {
    /// Takes the firing back: the effect found nothing to do in this request.
    pub(in crate::sandbox) fn did_nothing(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What rules look at in a request.
pub(in crate::sandbox) fn seen(request: &Request<Bytes>) -> Seen<'_> {
    Seen { method: request.method().as_str(), path: request.uri().path(), body: request.body() }
}

impl Faults {
    pub(in crate::sandbox) fn new(rules: Vec<Rule>, seed: u64, now: i64) -> Self {
        let armed =
            |rule| Armed { rule, matched: 0, fired: Arc::default(), buckets: HashMap::new() };
        Self { rules: rules.into_iter().map(armed).collect(), seed, since: now }
    }

    pub(in crate::sandbox) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|armed| &armed.rule)
    }

    /// The rules with their counts.
    pub(in crate::sandbox) fn in_force(&self) -> Vec<InForce<'_>> {
        self.rules.iter().map(Armed::in_force).collect()
    }

    /// Decides for a request.
    pub(in crate::sandbox) fn for_request(
        &mut self,
        seen: &Seen<'_>,
        headers: &HeaderMap,
        now: i64,
    ) -> Option<Fired> {
        self.first(
            now,
            |rule| rule.effect.reset != Some(Reset::Accept) && rule.matches.fits(seen),
            headers,
        )
    }

    /// Decides for a connection that was just accepted.
    pub(in crate::sandbox) fn for_connection(&mut self, now: i64) -> Option<Fired> {
        let headers = HeaderMap::new();
        self.first(now, |rule| rule.effect.reset == Some(Reset::Accept), &headers)
    }

    fn first(
        &mut self,
        now: i64,
        fits: impl Fn(&Rule) -> bool,
        headers: &HeaderMap,
    ) -> Option<Fired> {
        let elapsed = now.saturating_sub(self.since);
        for (position, armed) in self.rules.iter_mut().enumerate() {
            if !fits(&armed.rule) {
                continue;
            }
            armed.matched += 1;
            let mut random = random(self.seed, position, armed.matched);
            if armed.is_due(elapsed, &mut random) && armed.applies(elapsed, now, headers) {
                armed.fired.fetch_add(1, Ordering::Relaxed);
                return Some(Fired {
                    rule: position,
                    effect: armed.rule.effect.clone(),
                    random,
                    count: Arc::clone(&armed.fired),
                });
            }
        }
        None
    }
}

/// A generator of its own for each decision, so that rules and requests do not disturb each other.
fn random(seed: u64, position: usize, matched: u64) -> fastrand::Rng {
    let mut bytes = [0; 24];
    let parts = [seed, u64::try_from(position).unwrap_or(u64::MAX), matched];
    for (slot, part) in bytes.chunks_exact_mut(8).zip(parts) {
        slot.copy_from_slice(&part.to_le_bytes());
    }
    fastrand::Rng::with_seed(xxhash_rust::xxh3::xxh3_64(&bytes))
}

impl Armed {
    fn in_force(&self) -> InForce<'_> {
        let fired = self.fired.load(Ordering::Relaxed);
        InForce { rule: &self.rule, counts: Counts { matched: self.matched, fired } }
    }

    fn is_due(&self, elapsed: i64, random: &mut fastrand::Rng) -> bool {
        let when = &self.rule.when;
        let starts = when.after.map_or(0, Span::as_millis);
        let ends = when.lasting.map_or(i64::MAX, |span| starts.saturating_add(span.as_millis()));
        // Drawn always, so that the other conditions do not shift the sequence.
        let draw = random.f64();
        (starts..ends).contains(&elapsed)
            && when.first.is_none_or(|first| self.matched <= first)
            && when.every.is_none_or(|every| self.matched.is_multiple_of(every.max(1)))
            && when.times.is_none_or(|times| self.fired.load(Ordering::Relaxed) < times)
            && when.probability.is_none_or(|share| draw < share)
    }

    /// Effects that look at credentials do not fire for all.
    fn applies(&mut self, elapsed: i64, now: i64, headers: &HeaderMap) -> bool {
        let shown = Shown::of(headers);
        if let Some(unauthorized) = &self.rule.effect.unauthorized
            && !unauthorized.refuses(elapsed, shown.as_ref())
        {
            return false;
        }
        match self.rule.effect.rate_limit {
            Some(limit) => {
                let who = shown.map_or(0, |shown| shown.fingerprint());
                if self.buckets.len() >= MANY_BUCKETS {
                    self.buckets.retain(|_, bucket| !bucket.is_full(limit, now));
                }
                let full = Bucket { tokens: limit.burst, at: now };
                !self.buckets.entry(who).or_insert(full).take(limit, now)
            }
            None => true,
        }
    }
}

impl Bucket {
    fn filled(&self, limit: RateLimit, now: i64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "spans between requests are small")]
        let passed = now.saturating_sub(self.at).max(0) as f64 / 1000.0;
        (self.tokens + passed * limit.per_second).min(limit.burst)
    }

    fn is_full(&self, limit: RateLimit, now: i64) -> bool {
        self.filled(limit, now) >= limit.burst
    }

    fn take(&mut self, limit: RateLimit, now: i64) -> bool {
        self.tokens = self.filled(limit, now);
        self.at = now;
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

impl Items {
    /// Whether an item is chosen; `names` tells whether it names an identifier.
    pub(in crate::sandbox) fn chooses(
        &self,
        index: usize,
        names: impl Fn(&str) -> bool,
        random: &mut fastrand::Rng,
    ) -> bool {
        let draw = random.f64();
        self.indexes.as_ref().is_none_or(|indexes| indexes.contains(&index))
            && self.person.as_ref().is_none_or(|person| names(person))
            && self.probability.is_none_or(|share| draw < share)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn faults(rules: Value, seed: u64) -> Faults {
        Faults::new(serde_json::from_value(rules).unwrap(), seed, 0)
    }

    fn pattern(faults: &mut Faults, times: &[i64]) -> String {
        let seen = Seen { method: "POST", path: "/api/v2/batch", body: b"{}" };
        let fires = |now: &i64| faults.for_request(&seen, &HeaderMap::new(), *now).is_some();
        times.iter().map(fires).map(|fired| if fired { 'x' } else { '.' }).collect()
    }

    #[test]
    fn conditions_count_matching_requests() {
        for (when, expected) in [
            (json!({}), "xxxxxx"),
            (json!({"every": 3}), "..x..x"),
            (json!({"first": 2}), "xx...."),
            (json!({"every": 2, "times": 1}), ".x...."),
        ] {
            let mut faults = faults(json!([{"when": when, "do": {"status": 500}}]), 1);
            assert_eq!(pattern(&mut faults, &[0; 6]), expected, "{when}");
        }
    }

    #[test]
    fn spans_run_from_when_the_rules_were_set() {
        let rules = json!([{"when": {"after": "3s", "for": "2s"}, "do": {"status": 500}}]);
        let times = [0, 2999, 3000, 4999, 5000];
        assert_eq!(pattern(&mut faults(rules, 1), &times), "..xx.");
    }

    #[test]
    fn chance_repeats_with_the_seed() {
        let rules = json!([{"when": {"probability": 0.3}, "do": {"status": 500}}]);
        let draw = |seed| pattern(&mut faults(rules.clone(), seed), &[0; 400]);
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let share = draw(7).matches('x').count();
        assert!((80..160).contains(&share), "{share} of 400");
    }

    #[test]
    fn the_first_rule_that_fires_decides() {
        let rules = json!([
            {"when": {"first": 1}, "do": {"status": 500}},
            {"do": {"status": 429}},
        ]);
        let mut faults = faults(rules, 1);
        let seen = Seen { method: "POST", path: "/", body: b"" };
        let mut next = || faults.for_request(&seen, &HeaderMap::new(), 0).unwrap().effect.status;
        assert_eq!((next(), next()), (Some(500), Some(429)));
    }

    #[test]
    fn each_credential_has_its_own_bucket() {
        let rules = json!([{"do": {"rate_limit": {"per_second": 1, "burst": 1}}}]);
        let mut faults = faults(rules, 1);
        let seen = Seen { method: "POST", path: "/", body: b"" };
        let mut limited = |pair: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Basic {pair}").parse().unwrap());
            faults.for_request(&seen, &headers, 0).is_some()
        };
        // `one:key` and `two:key`.
        let (one, two) = ("b25lOmtleQ==", "dHdvOmtleQ==");
        assert_eq!([limited(one), limited(two), limited(one)], [false, false, true]);
    }

    #[test]
    fn a_bucket_refills_with_time() {
        let rules = json!([{"do": {"rate_limit": {"per_second": 2, "burst": 2}}}]);
        let times = [0, 0, 0, 500, 500, 5000, 5000, 5000];
        assert_eq!(pattern(&mut faults(rules, 1), &times), "..x.x..x");
    }
}
