//! The script files and their list `mapping.yaml`, built in or from a folder (skeleton).

use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;

/// Script texts and the list that joins them.
#[derive(Clone, Debug)]
pub struct Scripts {
    /// Event type (lower case) and its files in order.
    pub list: Vec<(String, Vec<String>)>,
    /// File name and text.
    pub files: Vec<(String, String)>,
    /// Test files: name and text.
    pub tests: Vec<(String, String)>,
    /// The folder; `None` for the built-in scripts.
    pub dir: Option<PathBuf>,
}

impl Scripts {
    /// Returns the scripts that are part of the binary.
    #[must_use]
    pub fn built_in() -> Self {
        todo!()
    }

    /// Reads a folder like `vrl/`.
    ///
    /// # Errors
    ///
    /// Diagnostics for an unreadable folder or file, and for mistakes in `mapping.yaml`.
    pub fn read(dir: &Path) -> Result<Self, Vec<Diagnostic>> {
        let _ = dir;
        todo!()
    }
}
