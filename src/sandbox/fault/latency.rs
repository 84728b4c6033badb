//! Slowness: a fixed wait, or one drawn from a distribution.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::sandbox::options::Span;

/// A fixed or random wait.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half of the waits are shorter.
    pub p50: Span,
    /// 99 of 100 waits are shorter (log-normal); as `p50` for a fixed wait.
    pub p99: Span,
    /// Whether the wait comes after the request was applied rather than before.
    pub after: bool,
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Pair {
            p50: Span,
            p99: Option<Span>,
            #[serde(default)]
            after: bool,
        }
        let value = Value::deserialize(deserializer)?;
        let pair: Pair = if value.is_object() {
            serde_json::from_value(value).map_err(D::Error::custom)?
        } else {
            let p50 = serde_json::from_value(value).map_err(D::Error::custom)?;
            Pair { p50, p99: None, after: false }
        };
        let p99 = pair.p99.unwrap_or(pair.p50);
        if p99 < pair.p50 {
            return Err(D::Error::custom("latency: `p99` must not be shorter than `p50`"));
        }
        Ok(Self { p50: pair.p50, p99, after: pair.after })
    }
}

impl Latency {
    /// Draws a wait.
    pub(in crate::sandbox) fn draw(&self, random: &mut fastrand::Rng) -> Duration {
        let (p50, p99) = (self.p50.0.as_secs_f64(), self.p99.0.as_secs_f64());
        if p99 <= p50 || p50 <= 0.0 {
            return self.p50.0;
        }
        // A log-normal wait: 2.326 is the 99th percentile of the standard normal distribution,
        // which Box and Muller's method draws from two uniform numbers.
        let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * random.f64()).cos();
        let seconds = p50 * ((p99 / p50).ln() / 2.326 * normal).exp();
        Duration::try_from_secs_f64(seconds.min(p99 * 10.0)).unwrap_or(self.p99.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_the_given_percentiles() {
        let latency: Latency =
            serde_json::from_value(serde_json::json!({"p50": "20ms", "p99": "200ms"})).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let mut waits: Vec<_> = (0..10_000).map(|_| latency.draw(&mut random)).collect();
        waits.sort();
        let at = |rank: usize| waits[rank].as_millis();
        assert!((18..22).contains(&at(5000)), "{}", at(5000));
        assert!((160..240).contains(&at(9900)), "{}", at(9900));
    }

    #[test]
    fn a_fixed_wait_is_fixed() {
        let latency: Latency = serde_json::from_value("200ms".into()).unwrap();
        let wait = latency.draw(&mut fastrand::Rng::with_seed(1));
        assert_eq!(wait, Duration::from_millis(200));
    }
}
