//! Who may use the endpoints.

use http::header::{AUTHORIZATION, ORIGIN};
use http::{HeaderMap, Method, Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::answer::{self, Answer};

/// Refuses requests without the token, and those that a web page makes a browser send.
///
/// A page may send a `POST` without custom headers to any address, loopback included; browsers mark
/// such a request with `Origin`.
pub(super) fn refuse<B>(request: &Request<B>, token: Option<&SecretString>) -> Option<Answer> {
    if let Some(token) = token
        && !carries(request.headers(), token)
    {
        return Some(answer::unauthorized());
    }
    if *request.method() == Method::POST && request.headers().contains_key(ORIGIN) {
        return Some(answer::error(StatusCode::FORBIDDEN, "not for web pages"));
    }
    None
}

fn carries(headers: &HeaderMap, token: &SecretString) -> bool {
    let Some(header) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let Some((scheme, given)) = header.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer") && same(given.trim(), token.expose_secret())
}

/// Compares in a time that tells nothing about where the texts differ: digests are compared whole.
fn same(given: &str, token: &str) -> bool {
    let (given, token) = (Sha256::digest(given), Sha256::digest(token));
    given.iter().zip(token.iter()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
