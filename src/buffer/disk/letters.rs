//! Which replayed letters in the database do not count: a letter is stored with its events, and
//! those may be taken back as long as nobody was told of them.

use std::collections::BTreeSet;

use crate::buffer::LetterId;

/// Letters that the database has, or may have, whose events are not stored for good: their append
/// was not answered yet, was given up, or failed.
#[derive(Debug, Default)]
pub(super) struct Letters {
    hidden: BTreeSet<LetterId>,
    /// Grows with every change, so that an answer of the database can be told to be outdated.
    version: u64,
}

impl Letters {
    #[cfg(feature = "pipeline")]
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Hides letters before a commit makes them visible.
    pub(super) fn hide(&mut self, letters: &[LetterId]) {
        self.hidden.extend(letters);
        self.version += 1;
    }

    /// Shows letters: their events are stored for good, or the database has them no longer.
    pub(super) fn show<'a>(&mut self, letters: impl IntoIterator<Item = &'a LetterId>) {
        for letter in letters {
            if self.hidden.remove(letter) {
                self.version += 1;
            }
        }
    }

    /// Corrects what the database has answered since this was at `version`; `None` if that has to
    /// be asked again.
    #[cfg(feature = "pipeline")]
    pub(super) fn correct(
        &self,
        version: u64,
        letters: &[LetterId],
        stored: &[bool],
    ) -> Option<Vec<bool>> {
        let known = |(letter, stored): (_, &bool)| *stored && !self.hidden.contains(letter);
        (version == self.version).then(|| letters.iter().zip(stored).map(known).collect())
    }
}
