//! The workspace as a file: what another sandbox begins with.

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::sandbox::workspace::State;

/// Format of the snapshot file.
const SNAPSHOT_VERSION: u64 = 1;

impl Engine {
    /// Returns the snapshot that [`Engine::restore`] reads, in JSON.
    ///
    /// # Errors
    ///
    /// None in practice; JSON's.
    pub fn snapshot(&mut self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        struct Snapshot<'a> {
            version: u64,
            workspace: &'a State,
        }
        let workspace = self.workspace().snapshot();
        serde_json::to_vec(&Snapshot { version: SNAPSHOT_VERSION, workspace })
    }

    /// Replaces the workspace's state by a snapshot.
    ///
    /// # Errors
    ///
    /// A text that says why it is none; nothing has changed then.
    pub fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        #[derive(Deserialize)]
        struct Snapshot {
            #[serde(default)]
            workspace: State,
        }
        let version = serde_json::from_slice::<Version>(snapshot);
        if !version.is_ok_and(|given| given.version == SNAPSHOT_VERSION) {
            return Err(format!("expected a snapshot with `version` {SNAPSHOT_VERSION}"));
        }
        let read: Snapshot =
            serde_json::from_slice(snapshot).map_err(|error| format!("snapshot: {error}"))?;
        self.workspace.restore(read.workspace);
        Ok(())
    }
}
