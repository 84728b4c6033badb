//! Looks at the files from time to time, and reloads when they hold something else.
//!
//! Watched are the scripts' folder, the configuration's file, and the files that it names with
//! `${file:…}`. Content is compared, as for the folder of scripts. A change counts only once two
//! looks have seen the same: a file that an editor or a copy is half through with may be valid, and
//! lack the last of its consent rules.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::{Reloader, Trigger};
use crate::mapping::reload::{PERIOD, Watcher};

/// How long the files must hold the same before they are loaded.
const SETTLED: Duration = Duration::from_millis(300);

/// Most that is read of a file; larger ones are refused by those who load them.
const MOST: u64 = 16 << 20;

/// What the files held at the last look.
struct Watch {
    file: Option<PathBuf>,
    /// Each file with the digest of its content, if it could be read.
    seen: Vec<(PathBuf, Option<[u8; 32]>)>,
    scripts: Option<(PathBuf, Watcher)>,
}

impl Watch {
    fn new(file: Option<PathBuf>) -> Self {
        Self { file, seen: Vec::new(), scripts: None }
    }

    /// Looks, and tells whether anything is not as at the last look. The first look at a folder or a
    /// file always finds something else, unless that is what can be read once only, as a pipe.
    fn changed(&mut self, dir: Option<PathBuf>) -> bool {
        let seen = self.file.as_deref().map(look).unwrap_or_default();
        let once = self.seen.is_empty() && seen.iter().any(|(_, content)| content.is_none());
        let mut changed = seen != self.seen;
        self.seen = seen;
        match (&mut self.scripts, dir) {
            (Some((known, watcher)), Some(dir)) if *known == dir => changed |= watcher.changed(),
            (None, None) => {}
            (scripts, dir) => {
                *scripts = dir.map(|dir| (dir.clone(), Watcher::new(dir)));
                changed = true;
            }
        }
        changed && !once
    }
}

/// Reads a configuration's file, and every file that a reference in it may name.
fn look(file: &Path) -> Vec<(PathBuf, Option<[u8; 32]>)> {
    let content = read(file);
    let digest = |content: &[u8]| <[u8; 32]>::from(Sha256::digest(content));
    let mut seen = vec![(file.to_owned(), content.as_deref().map(digest))];
    let text = content.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    // One that stands in a comment does no harm.
    for rest in text.split("${file:").skip(1) {
        if let Some((path, _)) = rest.split_once('}') {
            seen.push((PathBuf::from(path), read(Path::new(path)).as_deref().map(digest)));
        }
    }
    seen
}

fn read(path: &Path) -> Option<Vec<u8>> {
    // Opening a pipe can wait for ever.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut content = Vec::new();
    std::fs::File::open(path).ok()?.take(MOST).read_to_end(&mut content).ok()?;
    Some(content)
}

impl Reloader {
    /// Watches as long as `mapping.watch` asks for it, if there is anything to watch.
    pub(in crate::pipeline) fn watch(this: &Arc<Self>) -> Option<JoinHandle<()>> {
        let file = this.surroundings.file.clone();
        if file.is_none() && this.started.mapping.dir.is_none() {
            return None;
        }
        let this = Arc::clone(this);
        Some(tokio::spawn(async move {
            // What changed between the load and this first look is found by it.
            let mut watch = Watch::new(file);
            let mut changing = false;
            loop {
                tokio::time::sleep(if changing { SETTLED } else { PERIOD }).await;
                let mapping = this.in_force.load().config.mapping.clone();
                if !mapping.watch {
                    changing = false;
                    continue;
                }
                let look = tokio::task::spawn_blocking(move || (watch.changed(mapping.dir), watch));
                let Ok((changed, back)) = look.await else { return };
                watch = back;
                if changing && !changed {
                    // Why a reload is refused is logged and shown there.
                    drop(this.reload(Trigger::Look).await);
                }
                changing = changed;
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_configuration_its_references_and_the_scripts_are_seen_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let (file, key, vrl) =
            (dir.path().join("c.yaml"), dir.path().join("key"), dir.path().join("vrl"));
        crate::pipeline::tests::write_small_scripts(&vrl);
        fs::write(&key, "a").unwrap();
        let text = format!("api_key: \"${{file:{}}}\"", key.display());
        fs::write(&file, &text).unwrap();

        let mut watch = Watch::new(Some(file.clone()));
        let mut changed = || {
            let changed = watch.changed(Some(vrl.clone()));
            assert!(!watch.changed(Some(vrl.clone())), "a change is told once");
            changed
        };
        assert!(changed(), "the first look");
        fs::write(&file, &text).unwrap();
        assert!(!changed(), "the same content");
        fs::write(&key, "b").unwrap();
        assert!(changed(), "the file of a reference");
        fs::write(&file, format!("{text}\n")).unwrap();
        assert!(changed(), "the configuration");
        fs::write(vrl.join("track.vrl"), ". = []").unwrap();
        assert!(changed(), "a script");
        fs::remove_file(&file).unwrap();
        assert!(changed(), "a file that is gone");
    }

    #[test]
    fn what_can_be_read_once_only_is_not_read_again_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yaml");
        fs::write(&file, "api_key: \"${file:/dev/null}\"").unwrap();
        let mut watch = Watch::new(Some(file.clone()));
        assert!(!watch.changed(Some(dir.path().to_owned())));
        fs::write(&file, "").unwrap();
        assert!(watch.changed(Some(dir.path().to_owned())));
    }

    #[test]
    fn another_folder_of_scripts_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(None);
        assert!(!watch.changed(None));
        assert!(watch.changed(Some(dir.path().to_owned())));
        assert!(!watch.changed(Some(dir.path().to_owned())));
        assert!(watch.changed(None));
    }
}
