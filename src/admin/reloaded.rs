//! What a reload did, for whoever asked for it.

use std::fmt;

/// What a reload that was not refused did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Hash of the scripts in force.
    pub hash: String,
    /// Whether other scripts came into force.
    pub scripts: bool,
    /// Keys of the configuration that took effect, as paths.
    pub applied: Vec<String>,
    /// Keys that differ from what the process started with, and take effect with the next start.
    pub needs_restart: Vec<String>,
}

impl Reloaded {
    /// Tells whether something else is in force than before.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.scripts || !self.applied.is_empty()
    }

    /// Names what took effect, scripts first; empty if nothing did.
    #[must_use]
    pub fn effects(&self) -> String {
        let scripts = self.scripts.then_some("scripts").into_iter();
        scripts.chain(self.applied.iter().map(String::as_str)).collect::<Vec<_>>().join(", ")
    }
}

/// One line with the hash, one with what took effect, and one with what needs a restart.
impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "loaded, hash {}", self.hash)?;
        match (self.is_change(), self.needs_restart.is_empty()) {
            (true, _) => write!(f, "applied: {}", self.effects())?,
            (false, true) => f.write_str("nothing has changed")?,
            (false, false) => f.write_str("applied: nothing")?,
        }
        if !self.needs_restart.is_empty() {
            write!(f, "\nneeds restart: {}", self.needs_restart.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_took_effect_and_what_needs_a_restart() {
        let mut reloaded = Reloaded { hash: "abc".to_owned(), ..Reloaded::default() };
        let nothing = "loaded, hash abc\nnothing has changed";
        assert_eq!(reloaded.to_string(), nothing);
        reloaded.needs_restart = vec!["admin.token".to_owned()];
        let later = "loaded, hash abc\napplied: nothing\nneeds restart: admin.token";
        assert_eq!(reloaded.to_string(), later);
        reloaded.scripts = true;
        reloaded.applied = vec!["consent.unknown".to_owned(), "log.level".to_owned()];
        reloaded.needs_restart = vec!["admin.token".to_owned(), "buffer.max_size".to_owned()];
        assert_eq!(
            reloaded.to_string(),
            "loaded, hash abc\napplied: scripts, consent.unknown, log.level\n\
             needs restart: admin.token, buffer.max_size"
        );
    }
}
