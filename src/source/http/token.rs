//! Who may send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// The token that senders present. Only its digest is kept.
///
/// Digests are compared whole, in a time that tells nothing about where the texts differ.
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn new(token: &SecretString) -> Self {
        Self(Sha256::digest(token.expose_secret()).into())
    }

    /// Tells whether a head carries the token: after `Bearer`, or as user or password of `Basic`.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let Some(header) = headers.get(AUTHORIZATION) else { return false };
        let header = header.as_bytes();
        let Some(end) = header.iter().position(|byte| *byte == b' ') else { return false };
        let (scheme, given) = header.split_at(end);
        let given = given.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return self.is(given);
        }
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return false;
        }
        let Ok(pair) = STANDARD.decode(given) else { return false };
        let mut parts = pair.splitn(2, |byte| *byte == b':');
        // Both are compared, whatever the first one says.
        match (parts.next(), parts.next()) {
            (Some(user), Some(password)) => self.is(user) | self.is(password),
            _ => false,
        }
    }

    fn is(&self, given: &[u8]) -> bool {
        let given = Sha256::digest(given);
        given.iter().zip(self.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn bearer_and_both_parts_of_basic_are_taken() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (header, taken) in [
            ("Bearer s3cret".to_owned(), true),
            ("bearer  s3cret ".to_owned(), true),
            (basic("s3cret:"), true),
            (basic("fluent:s3cret"), true),
            (basic("s3cret:x"), true),
            ("Bearer s3cre".to_owned(), false),
            ("Bearer s3cret2".to_owned(), false),
            ("Bearer ".to_owned(), false),
            ("s3cret".to_owned(), false),
            ("Token s3cret".to_owned(), false),
            (basic("a:b"), false),
            (basic("s3cret"), false),
            ("Basic s3cret".to_owned(), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&header).unwrap());
            let token = Token::new(&"s3cret".into());
            assert_eq!(token.is_in(&headers), taken, "{header}");
        }
        assert!(!Token::new(&"s3cret".into()).is_in(&HeaderMap::new()));
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&basic("u:a:b")).unwrap());
        assert!(Token::new(&"a:b".into()).is_in(&headers));
    }
}
