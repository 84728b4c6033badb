//! Which dead letters were replayed: one line each in a file beside them.
//!
//! The file `replayed` holds `<letter> <file of the letter>` a line, and is only appended to, each
//! time durably. A line that a crash tore off counts as absent: its letters are then asked for in
//! the buffer, which remembers them too. Marks of files that are gone are removed now and then.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
#[cfg(feature = "pipeline")]
use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf};

#[cfg(feature = "pipeline")]
use super::folder;
use super::folder::named;
use super::read::{Item, LetterFile, Reader};
use crate::buffer::LetterId;

/// Name of the file.
const NAME: &str = "replayed";

/// Below this size marks of files that are gone stay.
#[cfg(feature = "pipeline")]
const SMALL: u64 = 1 << 20;

/// Stands for a file that is not in the folder.
#[cfg(feature = "pipeline")]
const ELSEWHERE: &str = "-";

/// The marks of a folder, to add some.
#[cfg(feature = "pipeline")]
#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    file: File,
    size: u64,
    /// A failed write may have left bytes behind `size`.
    torn: bool,
}

/// Returns the marked letters of a folder.
///
/// # Errors
///
/// I/O errors, with the path.
pub fn read(dir: &Path) -> io::Result<HashSet<LetterId>> {
    let mut marked = HashSet::new();
    each(&dir.join(NAME), |_, id, _| {
        marked.insert(id);
    })?;
    Ok(marked)
}

/// Returns the size of the file of marks; 0 if there is none.
pub(super) fn size(dir: &Path) -> u64 {
    fs::metadata(dir.join(NAME)).map_or(0, |file| file.len())
}

/// Tells whether every line of a file is a marked letter.
pub(super) fn cover(marked: &HashSet<LetterId>, path: &Path) -> bool {
    let Ok(file) = fs::metadata(path) else { return false };
    let file = LetterFile { path: path.to_owned(), bytes: file.len() };
    let Ok(mut reader) = Reader::open(&file) else { return false };
    loop {
        match reader.next() {
            Ok(Some(Item::Letter(letter))) if marked.contains(&letter.id) => {}
            Ok(None) => return true,
            _ => return false,
        }
    }
}

/// Calls `found` with each whole line, its letter, and the name of its file.
fn each(path: &Path, mut found: impl FnMut(&str, LetterId, &str)) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named(path, &error)),
    };
    let mut input = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut input, 1 << 16).read_until(b'\n', &mut line);
        if read.map_err(|e| named(path, &e))? == 0 {
            return Ok(());
        }
        let Some(Ok(text)) = line.strip_suffix(b"\n").map(str::from_utf8) else { continue };
        let Some((id, file)) = text.split_once(' ') else { continue };
        let digits = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if let (true, Ok(id)) = (digits, u128::from_str_radix(id, 16)) {
            found(text, LetterId(id), file);
        }
    }
}

#[cfg(feature = "pipeline")]
impl Marks {
    /// Opens the marks of a folder to add some. At most one may be open.
    ///
    /// # Errors
    ///
    /// I/O errors, with the path.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        if size(dir) > SMALL {
            compact(dir, &path)?;
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let file = file.map_err(|e| named(&path, &e))?;
        folder::sync(dir)?;
        let size = file.metadata().map_err(|e| named(&path, &e))?.len();
        let mut marks = Self { path, file, size, torn: false };
        // Ends a line that a crash tore off; an empty line does no harm.
        if size > 0 {
            marks.append(b"\n")?;
        }
        Ok(marks)
    }

    /// Marks letters of a file, durably.
    ///
    /// # Errors
    ///
    /// I/O errors; then none of them is marked.
    pub fn add(&mut self, of: &Path, letters: &[LetterId]) -> io::Result<()> {
        let beside = of.parent() == self.path.parent();
        let name = of.file_name().and_then(|name| name.to_str()).filter(|_| beside);
        let name = name.filter(|name| !name.contains(char::is_control)).unwrap_or(ELSEWHERE);
        let lines: String = letters.iter().map(|id| format!("{:032x} {name}\n", id.0)).collect();
        self.append(lines.as_bytes())
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut write = || {
            if self.torn {
                self.file.set_len(self.size)?;
            }
            self.torn = true;
            self.file.write_all(lines)?;
            self.file.sync_data()?;
            self.torn = false;
            self.size += lines.len() as u64;
            Ok(())
        };
        write().map_err(|e| named(&self.path, &e))
    }
}

/// Writes the file anew without the marks of files that are gone, if these are the most.
#[cfg(feature = "pipeline")]
fn compact(dir: &Path, path: &Path) -> io::Result<()> {
    let here: HashSet<_> = fs::read_dir(dir)
        .and_then(|entries| entries.map(|e| e.map(|e| e.file_name())).collect())
        .map_err(|e| named(dir, &e))?;
    let is_here = |name: &str| name == ELSEWHERE || here.contains(std::ffi::OsStr::new(name));
    let (mut kept, mut gone) = (0_u64, 0_u64);
    each(path, |_, _, file| if is_here(file) { kept += 1 } else { gone += 1 })?;
    if gone <= kept {
        return Ok(());
    }
    let new = path.with_extension("new");
    let write = || {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut out = io::BufWriter::new(file);
        let mut written = Ok(());
        each(path, |line, _, file| {
            if is_here(file) && written.is_ok() {
                written = writeln!(out, "{line}");
            }
        })?;
        written?;
        out.into_inner()?.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|e| named(&new, &e))?;
    folder::sync(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn marks_survive_and_a_torn_line_does_not_spoil_the_next() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        let file = dir.path().join("2026-01-01-1.ndjson");
        Marks::open(dir.path()).unwrap().add(&file, &[LetterId(1), LetterId(2)]).unwrap();
        let path = dir.path().join(NAME);
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"00000000000000000000000000000003 2026");
        fs::write(&path, text).unwrap();
        assert_eq!(read(dir.path()).unwrap(), HashSet::from([LetterId(1), LetterId(2)]));
        Marks::open(dir.path()).unwrap().add(&file, &[LetterId(u128::MAX)]).unwrap();
        let marked = read(dir.path()).unwrap();
        assert!(marked.contains(&LetterId(u128::MAX)) && marked.contains(&LetterId(1)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn nonsense_in_the_file_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let text = b"\n+0000000000000000000000000000001 f\nxyz\n\xff\xfe f\n0000000000000000000000000000000a f\n";
        fs::write(dir.path().join(NAME), text).unwrap();
        assert_eq!(read(dir.path()).unwrap(), HashSet::from([LetterId(10)]));
    }

    #[test]
    fn marks_of_files_that_are_gone_are_removed_when_they_are_many() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().join("2026-01-02-1.ndjson");
        fs::write(&here, "").unwrap();
        let mut marks = Marks::open(dir.path()).unwrap();
        let many: Vec<_> = (0..30_000).map(LetterId).collect();
        marks.add(&dir.path().join("2026-01-01-1.ndjson"), &many).unwrap();
        let last = LetterId(1 << 100);
        marks.add(&here, &[last]).unwrap();
        marks.add(Path::new("/elsewhere/x.ndjson"), &[LetterId(1 << 101)]).unwrap();
        let mut marks = Marks::open(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), HashSet::from([last, LetterId(1 << 101)]));
        assert!(size(dir.path()) < 200);
        marks.add(&here, &[LetterId(5)]).unwrap();
        assert!(read(dir.path()).unwrap().contains(&LetterId(5)));
    }
}
