//! The sandbox's time: real, shifted, or standing still until a test moves it.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Unix time in seconds, with fractions where the sender gave some.
///
/// Serialised as an integer when it is whole, as Customer.io shows its times.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Seconds(pub f64);

impl Seconds {
    /// Converts Unix milliseconds.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
        let millis = millis as f64;
        Self(millis / 1000.0)
    }

    /// Seconds from `earlier` to this time.
    #[must_use]
    pub fn since(self, earlier: Self) -> f64 {
        self.0 - earlier.0
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.fract() == 0.0 && self.0.abs() < 9e15 {
            #[expect(clippy::cast_possible_truncation, reason = "whole and in range, see above")]
            let whole = self.0 as i64;
            serializer.serialize_i64(whole)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    /// The system's time plus so many milliseconds.
    Shifted(i64),
    /// Unix milliseconds that only [`Clock::advance`] and [`Clock::set`] change.
    Standing(i64),
}

/// A clock that all clones share.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<Mode>>);

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// Follows the system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(Mutex::new(Mode::Shifted(0))))
    }

    /// Stands still at the given Unix time in seconds.
    #[must_use]
    pub fn standing(unix_seconds: i64) -> Self {
        Self(Arc::new(Mutex::new(Mode::Standing(unix_seconds.saturating_mul(1000)))))
    }

    /// Returns Unix milliseconds.
    #[must_use]
    pub fn now_millis(&self) -> i64 {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Mode::Shifted(by) => chrono::Utc::now().timestamp_millis().saturating_add(by),
            Mode::Standing(at) => at,
        }
    }

    /// Returns the time in seconds.
    #[must_use]
    pub fn now(&self) -> Seconds {
        Seconds::from_millis(self.now_millis())
    }

    /// Moves the time by so many milliseconds; a running clock goes on from there.
    pub fn advance(&self, millis: i64) {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Mode::Shifted(by) => *by = by.saturating_add(millis),
            Mode::Standing(at) => *at = at.saturating_add(millis),
        }
    }

    /// Makes the clock stand still at the given Unix milliseconds.
    pub fn set(&self, unix_millis: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Mode::Standing(unix_millis);
    }

    /// Makes the clock follow the system's again.
    pub fn follow_system(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Mode::Shifted(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_clock_moves_only_when_told() {
        let clock = Clock::standing(1_700_000_000);
        clock.advance(1500);
        assert_eq!(clock.now(), Seconds(1_700_000_001.5));
        clock.set(5000);
        assert_eq!(clock.now(), Seconds(5.0));
    }

    #[test]
    fn whole_seconds_are_written_as_integers() {
        assert_eq!(serde_json::to_string(&[Seconds(5.0), Seconds(5.5)]).unwrap(), "[5,5.5]");
    }
}
