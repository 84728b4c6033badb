//! One half of the Track API credentials, which is read again when its file may have changed.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::context::Context;
use super::declare::Form;
#[cfg(feature = "pipeline")]
use super::declare::{Compare, Differences};
use super::form::{Secret, secret_fault};
use super::reference::{self, Written};
use super::tree::{Data, Node};

/// A secret and the file it stands in, if it was written as `${file:PATH}`.
///
/// Nothing of the secret is in [`Debug`](std::fmt::Debug).
///
/// ```no_run
/// use rudder_customerio::config::{Credential, CustomerIoConfig};
///
/// # fn example() -> Result<CustomerIoConfig, String> {
/// // Read again when Customer.io refuses it: whoever rotates the key replaces the file.
/// let api_key = Credential::from_file("/run/secrets/customerio-api-key")?;
/// # Ok(
/// CustomerIoConfig::new("site id", api_key)
/// # ) }
/// ```
#[derive(Clone, Debug)]
pub struct Credential {
    secret: SecretString,
    file: Option<PathBuf>,
}

impl Credential {
    /// Reads a credential from a file, which can be read again later.
    ///
    /// # Errors
    ///
    /// What is wrong with the file or its content; it names the file and never shows the content.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, String> {
        let path = path.into();
        let wrong = |why: &str| format!("the file {}: {why}", path.display());
        // Reading a pipe again would wait for a writer that never comes.
        let metadata = std::fs::metadata(&path).map_err(|e| wrong(&reference::reason(&e)))?;
        if !metadata.is_file() {
            return Err(wrong("it is no regular file"));
        }
        let (text, _) = reference::read_file(&path).map_err(|why| wrong(&why))?;
        match secret_fault(&text) {
            Some((_, why)) => Err(wrong(why)),
            None => Ok(Self { secret: text.into(), file: Some(path) }),
        }
    }

    /// Returns the file.
    #[must_use]
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Reads the file again; a credential without one stays as it is.
    ///
    /// The path is opened anew, so that a file that was replaced, or a link that leads elsewhere
    /// now, counts.
    ///
    /// # Errors
    ///
    /// As [`Credential::from_file`].
    pub(crate) fn read_again(&self) -> Result<Self, String> {
        match &self.file {
            Some(path) => Self::from_file(path.clone()),
            None => Ok(self.clone()),
        }
    }
}

impl ExposeSecret<str> for Credential {
    fn expose_secret(&self) -> &str {
        self.secret.expose_secret()
    }
}

/// Another file with the same secret is another credential: it is the one that is read again.
#[cfg(feature = "pipeline")]
impl Compare for Credential {
    fn compare(&self, other: &Self, found: &mut Differences) {
        let same = self.secret.expose_secret() == other.secret.expose_secret();
        if !same || self.file != other.file {
            found.note();
        }
    }
}

impl From<&str> for Credential {
    fn from(secret: &str) -> Self {
        Self { secret: secret.into(), file: None }
    }
}

/// [`Secret`] with its file.
pub(super) struct Half;

impl Form<Credential> for Half {
    fn decode(node: &Node, cx: &mut Context<'_>) -> Option<Credential> {
        let secret = Secret::decode(node, cx)?;
        let file = match &node.data {
            Data::Text(text) => match reference::read(text) {
                Written::File(path) => Some(path.into()),
                Written::Plain | Written::Env(_) | Written::Bad(..) => None,
            },
            _ => None,
        };
        Some(Credential { secret, file })
    }

    fn schema() -> Value {
        Secret::schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "first\n").unwrap();
        let credential = Credential::from_file(&path).unwrap();
        assert_eq!(credential.expose_secret(), "first");
        std::fs::write(dir.path().join("new"), "second\r\n").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(credential.read_again().unwrap().expose_secret(), "second");
        assert_eq!(credential.expose_secret(), "first");
    }

    /// Kubernetes mounts secrets so: the file is a link into a folder that is itself a link.
    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_elsewhere_is_followed_anew() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (folder, key) in [("1", "first"), ("2", "second")] {
            std::fs::create_dir(at(folder)).unwrap();
            std::fs::write(at(folder).join("key"), key).unwrap();
        }
        symlink("1", at("data")).unwrap();
        symlink("data/key", at("key")).unwrap();
        let credential = Credential::from_file(at("key")).unwrap();
        symlink("2", at("data-new")).unwrap();
        std::fs::rename(at("data-new"), at("data")).unwrap();
        assert_eq!(credential.read_again().unwrap().expose_secret(), "second");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_and_its_content_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "first").unwrap();
        let credential = Credential::from_file(&path).unwrap();
        for content in ["", " \n", "s3cret\ns3cret", "s3cret\0"] {
            std::fs::write(&path, content).unwrap();
            let why = credential.read_again().unwrap_err();
            assert!(why.contains(path.to_str().unwrap()), "{why}");
            assert!(!why.contains("s3cret"), "{why}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(credential.read_again().unwrap_err().contains("there is no such file"));
        std::fs::create_dir(&path).unwrap();
        assert!(credential.read_again().unwrap_err().contains("no regular file"));
        let shown = format!("{:?}", Credential::from("s3cret"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
