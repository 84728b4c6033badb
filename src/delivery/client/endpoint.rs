//! Where requests go.

use http::Uri;

use crate::config::{CustomerIoConfig, Region};
use crate::diagnostic::Diagnostic;

/// Returns a region's base URL.
#[must_use]
pub fn region_endpoint(region: Region) -> &'static str {
    match region {
        Region::Us => "https://track.customer.io",
        Region::Eu => "https://track-eu.customer.io",
    }
}

/// Makes base URL and the URLs below it.
pub fn endpoint(config: &CustomerIoConfig) -> Result<(String, Uri, Uri), Box<Diagnostic>> {
    let base = base(config)?;
    let batch = below(&base, "/api/v2/batch")?;
    let account = below(&base, "/api/v1/accounts/region")?;
    Ok((base, batch, account))
}

/// Chooses and checks the base URL.
fn base(config: &CustomerIoConfig) -> Result<String, Box<Diagnostic>> {
    let Some(uri) = &config.endpoint else {
        return Ok(region_endpoint(config.region).to_owned());
    };
    let host = uri.host().unwrap_or_default();
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err(wrong(
            "`customerio.endpoint` must not hold credentials: use `site_id` and `api_key`",
        ));
    }
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback(host) => {}
        Some("http") if config.allow_insecure => {
            tracing::warn!(%host, "Requests to Customer.io are not encrypted (allow_insecure).");
        }
        Some("http") => {
            return Err(wrong(format!(
                "`customerio.endpoint` would send personal data to {host} unencrypted: use https://, or set `customerio.allow_insecure: true`"
            )));
        }
        _ => return Err(wrong("`customerio.endpoint` must begin with https:// or http://")),
    }
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let scheme = uri.scheme_str().unwrap_or("https");
    Ok(format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn below(endpoint: &str, path: &str) -> Result<Uri, Box<Diagnostic>> {
    format!("{endpoint}{path}")
        .parse()
        .map_err(|error| wrong(format!("`customerio.endpoint` is no base URL: {error}")))
}

fn wrong(text: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::error("invalid_value", text))
}
