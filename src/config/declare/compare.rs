//! Where two values of a configuration differ, by key path.
//!
//! [`section!`](super::section) and [`choice!`](super::choice) write the comparison of what they
//! declare, so that no key can be left out of it. Values are compared and never shown.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// A value that can be compared key by key.
pub(in crate::config) trait Compare {
    /// Whether it has no keys of its own: lists of such values differ as a whole.
    const PLAIN: bool = true;

    /// Notes every key at which the two differ.
    fn compare(&self, other: &Self, found: &mut Differences);
}

/// Key paths at which two values differ, in the order of the declarations.
#[derive(Default)]
pub(in crate::config) struct Differences {
    path: String,
    keys: Vec<String>,
}

impl Differences {
    /// Returns the key paths at which two values differ.
    pub(in crate::config) fn between<T: Compare>(one: &T, other: &T) -> Vec<String> {
        let mut found = Self::default();
        one.compare(other, &mut found);
        found.keys
    }

    /// Notes the current key path.
    pub(in crate::config) fn note(&mut self) {
        self.keys.push(self.path.clone());
    }

    /// Compares below a key.
    pub(in crate::config) fn below_key<T: Compare>(&mut self, key: &str, one: &T, other: &T) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        one.compare(other, self);
        self.path.truncate(length);
    }

    fn below_index<T: Compare>(&mut self, index: usize, one: &T, other: &T) {
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        one.compare(other, self);
        self.path.truncate(length);
    }
}

/// Values that are equal or not.
macro_rules! plain {
    ($($type:ty),* $(,)?) => { $(
        impl $crate::config::declare::Compare for $type {
            fn compare(&self, other: &Self, found: &mut $crate::config::declare::Differences) {
                if self != other {
                    found.note();
                }
            }
        }
    )* };
}

pub(in crate::config) use plain;

plain! { (), bool, u16, u32, u64, usize, i64, String, PathBuf, Duration, SocketAddr, http::Uri }

impl Compare for SecretString {
    fn compare(&self, other: &Self, found: &mut Differences) {
        if self.expose_secret() != other.expose_secret() {
            found.note();
        }
    }
}

impl<T: Compare> Compare for Option<T> {
    const PLAIN: bool = T::PLAIN;

    fn compare(&self, other: &Self, found: &mut Differences) {
        match (self, other) {
            (None, None) => {}
            (Some(one), Some(other)) => one.compare(other, found),
            _ => found.note(),
        }
    }
}

impl<T: Compare> Compare for Vec<T> {
    fn compare(&self, other: &Self, found: &mut Differences) {
        if self.len() != other.len() {
            return found.note();
        }
        let mut inner = Differences { path: found.path.clone(), keys: Vec::new() };
        for (index, (one, other)) in self.iter().zip(other).enumerate() {
            inner.below_index(index, one, other);
        }
        match (inner.keys.is_empty(), T::PLAIN) {
            (true, _) => {}
            (false, true) => found.note(),
            (false, false) => found.keys.append(&mut inner.keys),
        }
    }
}
