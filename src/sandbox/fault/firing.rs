//! Which rule fires for a request.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, Request};

use super::matching::Seen;
use super::{Effect, Items, RateLimit, Reset, Rule};
use crate::sandbox::credentials::Shown;
use crate::sandbox::options::Span;

/// The rules with their counters.
#[derive(Clone, Debug, Default)]
pub(in crate::sandbox) struct Faults {
    rules: Vec<Armed>,
    seed: u64,
    /// When the rules were set, Unix milliseconds.
    since: i64,
}

#[derive(Clone, Debug)]
struct Armed {
    rule: Rule,
    matched: u64,
    fired: u64,
    buckets: HashMap<u64, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: i64,
}

/// A rule that fires.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Fired {
    /// Position of the rule.
    pub(in crate::sandbox) rule: usize,
    pub(in crate::sandbox) effect: Effect,
    /// Decides what the effect leaves to chance.
    pub(in crate::sandbox) random: fastrand::Rng,
}

/// What rules look at in a request.
pub(in crate::sandbox) fn seen(request: &Request<Bytes>) -> Seen<'_> {
    Seen { method: request.method().as_str(), path: request.uri().path(), body: request.body() }
}

impl Faults {
    pub(in crate::sandbox) fn new(rules: Vec<Rule>, seed: u64, now: i64) -> Self {
        let armed = |rule| Armed { rule, matched: 0, fired: 0, buckets: HashMap::new() };
        Self { rules: rules.into_iter().map(armed).collect(), seed, since: now }
    }

    pub(in crate::sandbox) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|armed| &armed.rule)
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
                armed.fired += 1;
                return Some(Fired { rule: position, effect: armed.rule.effect.clone(), random });
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
    fn is_due(&self, elapsed: i64, random: &mut fastrand::Rng) -> bool {
        let when = &self.rule.when;
        let starts = when.after.map_or(0, Span::as_millis);
        let ends = when.lasting.map_or(i64::MAX, |span| starts.saturating_add(span.as_millis()));
        // Drawn always, so that the other conditions do not shift the sequence.
        let draw = random.f64();
        (starts..ends).contains(&elapsed)
            && when.first.is_none_or(|first| self.matched <= first)
            && when.every.is_none_or(|every| self.matched.is_multiple_of(every.max(1)))
            && when.times.is_none_or(|times| self.fired < times)
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
                let full = Bucket { tokens: limit.burst, at: now };
                !self.buckets.entry(who).or_insert(full).take(limit, now)
            }
            None => true,
        }
    }
}

impl Bucket {
    fn take(&mut self, limit: RateLimit, now: i64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "spans between requests are small")]
        let passed = now.saturating_sub(self.at).max(0) as f64 / 1000.0;
        self.at = now;
        self.tokens = (self.tokens + passed * limit.per_second).min(limit.burst);
        let has = self.tokens >= 1.0;
        if has {
            self.tokens -= 1.0;
        }
        has
    }
}

impl Items {
    /// Whether an item is chosen.
    pub(in crate::sandbox) fn chooses(
        &self,
        index: usize,
        item: &serde_json::Value,
        random: &mut fastrand::Rng,
    ) -> bool {
        let draw = random.f64();
        self.indexes.as_ref().is_none_or(|indexes| indexes.contains(&index))
            && self.person.as_ref().is_none_or(|person| super::matching::item_names(item, person))
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
    fn a_bucket_refills_with_time() {
        let rules = json!([{"do": {"rate_limit": {"per_second": 2, "burst": 2}}}]);
        let times = [0, 0, 0, 500, 500, 5000, 5000, 5000];
        assert_eq!(pattern(&mut faults(rules, 1), &times), "..x.x..x");
    }
}
