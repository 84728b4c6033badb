//! Asking Customer.io whether the credentials work.

use rudder_customerio::config::CustomerIoConfig;
use rudder_customerio::delivery::client::Client;

/// Asks the region endpoint. The text says what was found; it shows no secret.
///
/// # Errors
///
/// What is wrong with the credentials, the region, or the way there.
pub fn ask(config: &CustomerIoConfig) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let account = runtime.block_on(async {
        let client = Client::new(config).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            faults.join("\n")
        })?;
        client.account().await.map_err(|error| error.to_string())
    })?;
    let workspace = account.environment_id.map(|id| format!(", workspace {id}"));
    Ok(format!("the credentials work: region {}{}", account.region, workspace.unwrap_or_default()))
}
