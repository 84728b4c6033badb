//! Write keys: which source a request belongs to.
//!
//! A write key stands in web pages and apps: it names a source and is no secret. It is compared
//! as it is, but shown in no log and no error.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret as _, SecretString};

use super::answer::Refusal;
use crate::config::WriteKey;
use crate::source::Origin;

/// The sources that may send.
#[derive(Debug)]
pub struct Keys {
    sources: Vec<KeyedSource>,
    /// Stands for every key when none is configured.
    anybody: KeyedSource,
}

/// One source.
#[derive(Debug)]
pub struct KeyedSource {
    key: SecretString,
    /// Label and type.
    pub origin: Origin,
    /// Whether events are taken.
    pub enabled: bool,
}

impl Keys {
    /// Takes the configured keys; with none of them every key is accepted.
    pub fn new(keys: &[WriteKey]) -> Self {
        let source = |key: &WriteKey| KeyedSource {
            key: key.key.clone(),
            origin: Origin {
                source: Arc::from(if key.name.is_empty() { "rudderstack" } else { &*key.name }),
                source_type: Arc::from(&*key.source_type),
            },
            enabled: key.enabled,
        };
        let anybody = KeyedSource {
            key: SecretString::default(),
            origin: Origin { source: "rudderstack".into(), source_type: "".into() },
            enabled: true,
        };
        Self { sources: keys.iter().map(source).collect(), anybody }
    }

    /// Finds the source of a key.
    pub fn find(&self, key: &str) -> Result<&KeyedSource, Refusal> {
        if self.sources.is_empty() {
            return Ok(&self.anybody);
        }
        let mut sources = self.sources.iter();
        sources.find(|source| source.key.expose_secret() == key).ok_or(Refusal::UnknownKey)
    }
}

/// Reads the key from `Authorization: Basic`: the user; the password is ignored.
pub fn from_header(headers: &HeaderMap) -> Option<String> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (user, _) = decoded.split_once(':')?;
    (!user.is_empty()).then(|| user.to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_basic_with_a_user_names_a_key() {
        for (header, key) in [
            ("Basic V1JJVEVfS0VZX1RFU1Q6", Some("WRITE_KEY_TEST")),
            ("basic V1JJVEVfS0VZX1RFU1Q6c2VjcmV0", Some("WRITE_KEY_TEST")),
            ("Bearer V1JJVEVfS0VZX1RFU1Q6", None),
            ("Basic Ong=", None),
            ("Basic V1JJVEVfS0VZX1RFU1Q=", None),
            ("Basic %%%", None),
            ("Basic", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(header));
            assert_eq!(from_header(&headers).as_deref(), key, "{header}");
        }
        assert_eq!(from_header(&HeaderMap::new()), None);
    }

    #[test]
    fn without_configured_keys_every_key_is_accepted() {
        let keys = Keys::new(&[]);
        assert_eq!(&*keys.find("whatever").unwrap().origin.source, "rudderstack");
    }
}
