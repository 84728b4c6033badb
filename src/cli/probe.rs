//! Asking Customer.io whether the credentials work.

use crate::config::CustomerIoConfig;
use crate::delivery::client::{Client, ProbeError};

/// Codes of what the configuration says and Customer.io contradicts.
const CONTRADICTIONS: [&str; 3] = ["redirected", "wrong_region", "wrong_workspace"];

/// Why the credentials are not known to work.
#[derive(Debug)]
pub struct Failure {
    /// Text for the operator.
    pub why: String,
    /// Whether the configuration must be changed: it names another region, workspace, or endpoint
    /// than the credentials belong to.
    pub invalid: bool,
}

impl Failure {
    fn of_the_world(why: String) -> Self {
        Self { why, invalid: false }
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        let why = error.to_string();
        let invalid = CONTRADICTIONS.contains(&error.into_hold().code);
        Self { why, invalid }
    }
}

/// Asks the region endpoint. The text says what was found; it shows no secret.
///
/// # Errors
///
/// What is wrong with the credentials, the region, or the way there.
pub fn ask(config: &CustomerIoConfig) -> Result<String, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::of_the_world(format!("cannot start: {error}")))?;
    let account = runtime.block_on(async {
        let client = Client::new(config).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            Failure { why: faults.join("\n"), invalid: true }
        })?;
        client.account().await.map_err(Failure::from)
    })?;
    let workspace = account.environment_id.map(|id| format!(", workspace {id}"));
    Ok(format!("the credentials work: region {}{}", account.region, workspace.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use crate::delivery::Hold;

    use super::*;

    #[test]
    fn another_region_is_a_mistake_of_the_configuration_and_a_refused_key_is_not() {
        for (code, invalid) in [
            ("wrong_region", true),
            ("wrong_workspace", true),
            ("redirected", true),
            ("unauthorized", false),
            ("forbidden", false),
        ] {
            let hold = Hold { code, message: "set `customerio.region: eu`".to_owned() };
            let failure = Failure::from(ProbeError::Refused(hold));
            assert_eq!(failure.invalid, invalid, "{code}");
            assert_eq!(failure.why, "set `customerio.region: eu`");
        }
        assert!(!Failure::from(ProbeError::Unreachable(String::new())).invalid);
    }
}
