//! The activity log: what was answered with 200 and not done, or not wholly.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Received;
use crate::sandbox::clock::Seconds;

/// How many entries are kept; the counts go on.
const KEPT: usize = 10_000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActivityKind {
    /// An attribute or identifier could not be set.
    FailedAttributeChange,
    /// An event with this `id` was stored before.
    DuplicateEvent,
    /// Nobody has this `cio_id`.
    UnknownCioId,
    /// The identifier is suppressed.
    Suppressed,
    /// A merge without two different existing people.
    MergeIgnored,
    /// `_update: true`, and nobody to update.
    UpdateOnlyNoMatch,
    /// The event is older than 72 hours: kept, but it triggers no campaign.
    LateEvent,
}

impl ActivityKind {
    /// Returns the name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FailedAttributeChange => "failed_attribute_change",
            Self::DuplicateEvent => "duplicate_event",
            Self::UnknownCioId => "unknown_cio_id",
            Self::Suppressed => "suppressed",
            Self::MergeIgnored => "merge_ignored",
            Self::UpdateOnlyNoMatch => "update_only_no_match",
            Self::LateEvent => "late_event",
        }
    }
}

/// One entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Activity {
    /// What happened.
    pub kind: ActivityKind,
    /// When the request was received.
    pub at: Seconds,
    /// The request's number.
    pub request: u64,
    /// Position within the batch.
    pub item: Option<usize>,
    /// The identifier concerned, as `kind:value`.
    pub person: Option<String>,
    /// Why.
    pub detail: String,
}

/// The last entries, and the counts of all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ActivityLog {
    pub(super) entries: VecDeque<Activity>,
    pub(super) counts: BTreeMap<ActivityKind, u64>,
}

impl ActivityLog {
    pub(super) fn push(
        &mut self,
        received: Received,
        kind: ActivityKind,
        person: Option<String>,
        detail: String,
    ) {
        if self.entries.len() >= KEPT {
            self.entries.pop_front();
        }
        *self.counts.entry(kind).or_default() += 1;
        let Received { at, request, item, .. } = received;
        self.entries.push_back(Activity { kind, at, request, item, person, detail });
    }
}
