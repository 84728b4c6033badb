//! Which letters go: replayed ones and the oldest when the folder is full, all that are past their age.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};

use super::{Files, date, first_line, head};
use crate::config::DeadLettersFull;
use crate::delivery::dead_letter::folder::named;
use crate::delivery::dead_letter::marks;
use crate::delivery::metering;

/// How often files are looked at for their age.
const AGE_CHECK: Duration = Duration::from_secs(600);

impl Files {
    /// Removes the files that are past their age, also the open one.
    pub fn prune(&mut self, now: DateTime<Utc>) {
        let at = SystemTime::from(now);
        if let Some(open) = &self.open
            && (open.date < date(now) || is_aged(&open.path, self.max_age, at))
        {
            self.close();
        }
        self.drop_aged(at);
    }

    /// Keeps the folder within its bound; returns those of the lines for which there is room.
    pub(super) fn make_room<'a>(&mut self, lines: &'a [u8]) -> io::Result<&'a [u8]> {
        let added = lines.len() as u64;
        if self.total() + added > self.max_size {
            // Files may have been taken away or edited by hand since.
            self.closed.retain_mut(|(path, size)| {
                let now = fs::metadata(path).map(|file| file.len());
                now.is_ok_and(|now| {
                    *size = now;
                    true
                })
            });
            self.drop_replayed(added)?;
        }
        while self.total() + added > self.max_size {
            if self.when_full == DeadLettersFull::Hold {
                let room = self.max_size.saturating_sub(self.total());
                if let Some(fitting) = head(lines, room) {
                    return Ok(fitting);
                }
                if self.total() == 0 {
                    // A single letter larger than the bound: better kept than stuck.
                    return Ok(first_line(lines));
                }
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    format!(
                        "the dead letters in {} have reached `dead_letters.max_size` ({} bytes): replay or remove some",
                        self.dir.display(),
                        self.max_size
                    ),
                ));
            }
            if self.closed.is_empty() {
                self.close();
            }
            if self.closed.is_empty() {
                // A single letter larger than the bound: better kept than lost.
                return Ok(lines);
            }
            let (path, _) = self.closed.remove(0);
            drop_file(&path, "size")?;
        }
        Ok(lines)
    }

    /// Makes room by removing files of which every letter was replayed, the oldest first.
    fn drop_replayed(&mut self, added: u64) -> io::Result<()> {
        let size = marks::size(&self.dir);
        if size == 0 || self.marks_searched == Some(size) {
            return Ok(());
        }
        let marked = marks::read(&self.dir)?;
        let mut n = 0;
        while self.total() + added > self.max_size {
            let Some((path, _)) = self.closed.get(n) else {
                self.marks_searched = Some(size);
                return Ok(());
            };
            if !marks::cover(&marked, path) {
                n += 1;
                continue;
            }
            drop_replayed(path)?;
            self.closed.remove(n);
        }
        Ok(())
    }

    pub(super) fn drop_aged_now_and_then(&mut self, now: SystemTime) {
        let recently = |at: SystemTime| now.duration_since(at).is_ok_and(|d| d < AGE_CHECK);
        if !self.aged.is_some_and(recently) {
            self.drop_aged(now);
        }
    }

    fn drop_aged(&mut self, now: SystemTime) {
        self.aged = Some(now);
        let (max_age, dir) = (self.max_age, &self.dir);
        let mut marked = None;
        self.closed.retain(|(path, _)| {
            if !is_aged(path, max_age, now) {
                return true;
            }
            let marked = marked.get_or_insert_with(|| marks::read(dir).unwrap_or_default());
            let removed = match marks::cover(marked, path) {
                true => drop_replayed(path),
                false => drop_file(path, "age"),
            };
            if let Err(error) = &removed {
                tracing::error!(%error, "Dead letters past their age cannot be removed.");
            }
            removed.is_err()
        });
    }
}

fn is_aged(path: &Path, max_age: Duration, now: SystemTime) -> bool {
    let modified = fs::metadata(path).and_then(|file| file.modified());
    modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > max_age))
}

/// Removes a file of which nothing is lost.
fn drop_replayed(path: &Path) -> io::Result<()> {
    remove(path)?;
    tracing::info!(file = %path.display(), "Replayed dead letters were removed.");
    Ok(())
}

fn drop_file(path: &Path, bound: &'static str) -> io::Result<()> {
    let lines = fs::read(path).map(|text| memchr::memchr_iter(b'\n', &text).count()).unwrap_or(0);
    remove(path)?;
    metering::letters_dropped(lines as u64);
    tracing::warn!(file = %path.display(), letters = lines, bound, "Old dead letters were removed.");
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path, &error)),
        _ => Ok(()),
    }
}
