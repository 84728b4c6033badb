//! By which credentials requests travel, and new ones out of the same files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::ExposeSecret;

use crate::config::{Credential, CustomerIoConfig};
use crate::diagnostic::Diagnostic;

/// Site id and API key, and the header that they make.
#[derive(Clone, Debug)]
pub struct Credentials {
    site_id: Credential,
    api_key: Credential,
    authorization: HeaderValue,
}

impl Credentials {
    /// Takes the credentials of the configuration.
    pub fn new(config: &CustomerIoConfig) -> Result<Self, Box<Diagnostic>> {
        Self::of(config.site_id.clone(), config.api_key.clone())
            .map_err(|why| Box::new(Diagnostic::error("invalid_value", why)))
    }

    fn of(site_id: Credential, api_key: Credential) -> Result<Self, &'static str> {
        let user = site_id.expose_secret();
        if user.contains(':') {
            return Err(
                "`customerio.site_id` holds a colon, which Basic authentication cannot carry",
            );
        }
        let encoded = STANDARD.encode(format!("{user}:{}", api_key.expose_secret()));
        let mut authorization = HeaderValue::try_from(format!("Basic {encoded}"))
            .map_err(|_| "the credentials form no header")?;
        authorization.set_sensitive(true);
        Ok(Self { site_id, api_key, authorization })
    }

    /// Returns the header of Basic authentication.
    pub fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }

    /// Tells whether requests look the same by both.
    pub fn are(&self, others: &Self) -> bool {
        self.authorization == others.authorization
    }

    /// Tells whether a half of them stands in a file.
    pub fn are_in_files(&self) -> bool {
        self.site_id.file().is_some() || self.api_key.file().is_some()
    }

    /// Reads the files again. Both halves are taken or none. Blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the files; the text names them and never shows their content.
    pub fn read_again(&self) -> Result<Self, String> {
        let half = |key: &str, half: &Credential| {
            half.read_again().map_err(|why| format!("`customerio.{key}`: {why}"))
        };
        let site_id = half("site_id", &self.site_id)?;
        let api_key = half("api_key", &self.api_key)?;
        Self::of(site_id, api_key).map_err(str::to_owned)
    }
}
