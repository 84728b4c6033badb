//! Suppression: deletes a person and blocks its identifiers until they are freed together.

use super::Workspace;
use crate::sandbox::operation::Identifier;

impl Workspace {
    pub(super) fn is_suppressed(&self, identifier: &Identifier) -> bool {
        !self.state.suppressed.is_empty() && self.state.suppressed.contains_key(&identifier.key())
    }

    /// Blocks the given identifier, and all of the person if there is one.
    pub(super) fn suppress(&mut self, who: &Identifier) {
        self.state.suppressions_made += 1;
        let group = self.state.suppressions_made;
        let cio_id = self.state.people.find(who);
        let person = cio_id.as_deref().and_then(|cio_id| self.state.people.get(cio_id));
        let all = person.map(super::Person::identifiers).unwrap_or_default();
        // An unknown cio_id is not blocked: nobody but the workspace itself can bring it up.
        let given = Some(who).filter(|who| !matches!(who, Identifier::CioId(_)));
        for identifier in all.iter().chain(given) {
            self.state.suppressed.insert(identifier.key(), group);
        }
        if let Some(cio_id) = cio_id {
            self.delete_person(&cio_id);
        }
    }

    /// Frees the identifier with all that were blocked together with it; restores nothing.
    pub(super) fn unsuppress(&mut self, who: &Identifier) {
        if let Some(group) = self.state.suppressed.get(&who.key()).copied() {
            self.state.suppressed.retain(|_, other| *other != group);
        }
    }
}
