//! Whose credentials these are: `GET /api/v1/accounts/region`.
//!
//! It is the one endpoint that tells good credentials from bad ones without changing anything, and
//! it names the workspace.

use std::fmt;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::super::reply::{self, Failure, Policy};
use super::super::{Hold, Reply};
use crate::config::Region;

/// The account behind a pair of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Region, `us` or `eu`.
    pub region: String,
    /// Base URL of the region's Track API.
    pub url: Option<String>,
    /// The workspace.
    pub environment_id: Option<i64>,
}

/// Why the account is not known, or is not the configured one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// Delivery must wait until the operator has mended this.
    Refused(Hold),
    /// Customer.io could not be asked; it says nothing about the credentials.
    Unreachable(String),
}

impl ProbeError {
    pub(super) fn from_failure(failure: &Failure, policy: &Policy) -> Self {
        match failure.reply(policy) {
            Reply::Hold(hold) => Self::Refused(hold),
            Reply::Retry { why, .. } => {
                Self::Unreachable(format!("{} cannot be reached: {why}", policy.endpoint))
            }
            Reply::Items(_) | Reply::Split(_) | Reply::Doubtful(_) => {
                Self::Unreachable(policy.endpoint.clone())
            }
        }
    }

    /// Returns the hold; what is not reachable has the code `unreachable`.
    #[must_use]
    pub fn into_hold(self) -> Hold {
        match self {
            Self::Refused(hold) => hold,
            Self::Unreachable(message) => Hold { code: "unreachable", message },
        }
    }
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(hold) => f.write_str(&hold.message),
            Self::Unreachable(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ProbeError {}

/// Reads the answer.
pub fn read(
    policy: &Policy,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Account, ProbeError> {
    let strange = || {
        let message = format!(
            "{} does not answer like the Track API ({status}): check `customerio.endpoint` and proxies in between",
            policy.endpoint
        );
        ProbeError::Refused(Hold { code: "protocol", message })
    };
    if !status.is_success() {
        return Err(match reply::classify(policy, status, headers, body, 1, SystemTime::now()) {
            Reply::Hold(hold) => ProbeError::Refused(hold),
            Reply::Retry { .. } => {
                ProbeError::Unreachable(format!("{} answers {status}", policy.endpoint))
            }
            // Customer.io's older documents name 400 for bad credentials.
            Reply::Split(_) if status == StatusCode::BAD_REQUEST => {
                let headers = HeaderMap::new();
                return read(policy, StatusCode::UNAUTHORIZED, &headers, body);
            }
            Reply::Items(_) | Reply::Split(_) | Reply::Doubtful(_) => strange(),
        });
    }
    let value: Value = serde_json::from_slice(body).map_err(|_| strange())?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Account {
        region: text("region").ok_or_else(strange)?,
        url: text("url"),
        environment_id: value.get("environment_id").and_then(Value::as_i64),
    })
}

impl Account {
    /// Returns the region, cut to what a message has room for.
    pub(super) fn shown_region(&self) -> String {
        self.region.chars().take(16).collect()
    }

    /// Compares with the configuration.
    pub(super) fn check(
        &self,
        region: Option<Region>,
        environment_id: Option<i64>,
    ) -> Result<(), ProbeError> {
        let hold = |code, message| Err(ProbeError::Refused(Hold { code, message }));
        let configured = region.map(|region| match region {
            Region::Us => "us",
            Region::Eu => "eu",
        });
        if configured.is_some_and(|configured| configured != self.region) {
            let message = format!(
                "the account is in region {0}: set `customerio.region: {0}`",
                self.shown_region()
            );
            return hold("wrong_region", message);
        }
        match (environment_id, self.environment_id) {
            (Some(pinned), Some(actual)) if pinned != actual => hold(
                "wrong_workspace",
                format!(
                    "the credentials belong to workspace {actual}, but `customerio.environment_id` is {pinned}"
                ),
            ),
            (Some(pinned), None) => hold(
                "wrong_workspace",
                format!(
                    "Customer.io names no workspace to compare with `customerio.environment_id` {pinned}"
                ),
            ),
            _ => Ok(()),
        }
    }
}
