//! What of a changed configuration takes effect while the process runs.
//!
//! A reload reads the whole file again, with every `${env:…}` and `${file:…}` in it, and checks it
//! whole: if anything is wrong, nothing changes. If all is right, these keys take effect at once:
//!
//! | key | holds from |
//! |---|---|
//! | `filter.*`, `consent.*` | the next batch of events |
//! | `mapping.dir`, `mapping.settings.*`, and the scripts | the next batch of events |
//! | `mapping.watch` | the next look at the files |
//! | `customerio.site_id`, `customerio.api_key` | the next request |
//! | `customerio.rate_limit.*` | the next request |
//! | `customerio.batch.*`, `customerio.retry.*` | the next request |
//! | `dead_letters.max_size`, `dead_letters.max_age` | the next dead letter |
//! | `log.level` | the next message |
//!
//! Filter, consent, and scripts change in one step, and what the gateways answer to `/sourceConfig`
//! with them. A batch that is being mapped keeps the old ones, and what is in the buffer is delivered
//! as it is. After a change of the credentials a delivery that is held asks at once whether it may go
//! on; one that is paused stays so. The environment of a process does not change, so that an
//! `${env:…}` keeps its value; an `${file:…}` is read again.
//!
//! All other keys need a restart. They are compared with what the process started with, and named until
//! the file says that again or the process is started anew.

use super::Config;
use super::declare::Differences;

/// Keys, and sections with all their keys, that take effect while the process runs.
const LIVE: [&str; 13] = [
    "filter",
    "consent",
    "mapping.dir",
    "mapping.watch",
    "mapping.settings",
    "customerio.site_id",
    "customerio.api_key",
    "customerio.rate_limit",
    "customerio.batch",
    "customerio.retry",
    "dead_letters.max_size",
    "dead_letters.max_age",
    "log.level",
];

/// Fields whose name is not the path of their key.
const ELSEWHERE: [(&str, &str); 3] = [
    ("buffer.kind", "buffer.type"),
    ("customerio.requests_per_second", "customerio.rate_limit.requests_per_second"),
    ("customerio.burst", "customerio.rate_limit.burst"),
];

/// Which keys a reload changes, as paths such as `sources[0].listen`; never their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that take effect at once and differ from what is in force.
    pub applied: Vec<String>,
    /// Keys that take effect with the next start and differ from what the process started with.
    pub needs_restart: Vec<String>,
}

impl Changes {
    /// Compares what was read with what the process started with, and with what is in force.
    #[must_use]
    pub fn between(started: &Config, in_force: &Config, read: &Config) -> Self {
        let mut applied = differences(in_force, read);
        applied.retain(|key| is_live(key));
        let mut needs_restart = differences(started, read);
        needs_restart.retain(|key| !is_live(key));
        Self { applied, needs_restart }
    }
}

impl Config {
    /// Returns this configuration with those keys of another that take effect while running.
    #[must_use]
    pub(crate) fn with_live_keys_of(&self, read: &Self) -> Self {
        let mut config = self.clone();
        config.filter = read.filter.clone();
        config.consent = read.consent.clone();
        config.mapping.dir = read.mapping.dir.clone();
        config.mapping.watch = read.mapping.watch;
        config.mapping.settings = read.mapping.settings.clone();
        if let (Some(own), Some(read)) = (&mut config.customerio, &read.customerio) {
            own.site_id = read.site_id.clone();
            own.api_key = read.api_key.clone();
            own.requests_per_second = read.requests_per_second;
            own.burst = read.burst;
            own.batch = read.batch.clone();
            own.retry = read.retry.clone();
        }
        config.dead_letters.max_size = read.dead_letters.max_size;
        config.dead_letters.max_age = read.dead_letters.max_age;
        config.log.level = read.log.level;
        config
    }
}

fn differences(one: &Config, other: &Config) -> Vec<String> {
    let mut keys = Differences::between(one, other);
    for key in &mut keys {
        if let Some((_, path)) = ELSEWHERE.iter().find(|(field, _)| field == key) {
            (*path).clone_into(key);
        }
    }
    keys
}

/// Tells whether a key takes effect while the process runs.
fn is_live(key: &str) -> bool {
    LIVE.iter().any(|live| {
        key.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })
}

#[cfg(test)]
mod tests;
