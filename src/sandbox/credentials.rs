//! Basic auth as Customer.io takes it: standard and URL-safe base64, split at the first colon.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret as _, SecretString};

use super::options::Region;

/// A credential that the sandbox knows.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The Site ID.
    pub site_id: String,
    /// The API key.
    pub api_key: SecretString,
    /// The region of the workspace.
    pub region: Region,
    /// The workspace; the sandbox's own if absent.
    pub environment_id: Option<u64>,
}

impl std::str::FromStr for Credential {
    type Err = String;

    /// Reads `site:key`, or `eu=site:key`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (region, pair) = match text.split_once('=') {
            Some((region @ ("us" | "eu"), pair)) => (region.parse()?, pair),
            _ => (Region::Us, text),
        };
        match pair.split_once(':') {
            Some((site, key)) if !site.is_empty() && !key.is_empty() => Ok(Self {
                site_id: site.to_owned(),
                api_key: key.into(),
                region,
                environment_id: None,
            }),
            _ => Err("expected SITE_ID:API_KEY, or REGION=SITE_ID:API_KEY".to_owned()),
        }
    }
}

/// What a request showed: user and password.
pub(super) struct Shown {
    pub(super) site_id: String,
    api_key: SecretString,
}

impl Shown {
    /// Reads the Authorization header.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, encoded) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = decode(encoded.trim())?;
        let (site, key) = decoded.split_once(':')?;
        let complete = !site.is_empty() && !key.is_empty();
        complete.then(|| Self { site_id: site.to_owned(), api_key: key.into() })
    }

    /// Whether it is this credential.
    pub(super) fn is(&self, credential: &Credential) -> bool {
        self.site_id == credential.site_id
            && self.api_key.expose_secret() == credential.api_key.expose_secret()
    }

    /// Whether it is this `site:key`.
    pub(super) fn is_pair(&self, pair: &str) -> bool {
        pair.split_once(':')
            .is_some_and(|(site, key)| site == self.site_id && key == self.api_key.expose_secret())
    }

    /// The last four characters of the key, which is all that is ever shown.
    pub(super) fn ending(&self) -> String {
        ending(self.api_key.expose_secret())
    }

    /// A key that tells credentials apart without telling them.
    pub(super) fn fingerprint(&self) -> u64 {
        let both = format!("{}:{}", self.site_id, self.api_key.expose_secret());
        xxhash_rust::xxh3::xxh3_64(both.as_bytes())
    }
}

/// The last four characters of a secret; nothing of one that is shorter than eight.
pub(super) fn ending(secret: &str) -> String {
    let characters: Vec<char> = secret.chars().collect();
    let shown = if characters.len() < 8 { 0 } else { 4 };
    let tail: String = characters.iter().skip(characters.len() - shown).collect();
    format!("…{tail}")
}

fn decode(text: &str) -> Option<String> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, config)
        .decode(text)
        .or_else(|_| GeneralPurpose::new(&URL_SAFE, config).decode(text))
        .ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: &str) -> Option<Shown> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        Shown::of(&headers)
    }

    #[test]
    fn both_alphabets_are_taken_with_and_without_padding() {
        for encoded in ["c2l0ZX4_OmtleX4_Pg==", "c2l0ZX4/OmtleX4/Pg==", "c2l0ZX4/OmtleX4/Pg"] {
            assert!(shown(&format!("Basic {encoded}")).unwrap().is_pair("site~?:key~?>"));
        }
    }

    #[test]
    fn incomplete_headers_are_none() {
        for header in ["Bearer abc", "Basic", "Basic !!!", "Basic c2l0ZQ==", "Basic c2l0ZTo="] {
            assert!(shown(header).is_none(), "{header}");
        }
    }

    #[test]
    fn credentials_on_the_command_line_may_name_a_region() {
        let credential: Credential = "eu=site:a=b".parse().unwrap();
        assert_eq!((credential.region, credential.site_id.as_str()), (Region::Eu, "site"));
        assert_eq!("s:k".parse::<Credential>().unwrap().region, Region::Us);
        assert!("site".parse::<Credential>().is_err());
    }

    #[test]
    fn short_secrets_show_nothing() {
        assert_eq!(ending("abcdefgh"), "…efgh");
        assert_eq!(ending("abcd"), "…");
    }
}
