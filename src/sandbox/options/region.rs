//! The regions, and their hosts.

use serde::{Deserialize, Serialize};

/// A region of Customer.io.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// `track.customer.io`.
    #[default]
    Us,
    /// `track-eu.customer.io`.
    Eu,
}

impl Region {
    /// Returns the base URL of the region's Track API.
    #[must_use]
    pub fn url(self) -> &'static str {
        match self {
            Self::Us => "https://track.customer.io",
            Self::Eu => "https://track-eu.customer.io",
        }
    }

    /// Returns `us` or `eu`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Eu => "eu",
        }
    }
}

impl std::str::FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "us" => Ok(Self::Us),
            "eu" => Ok(Self::Eu),
            _ => Err(format!("unknown region `{text}`, expected `us` or `eu`")),
        }
    }
}
