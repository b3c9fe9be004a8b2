//! Log files that are renamed when they are full.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Smallest size limit of a log file, in bytes. Same as the field's.
pub const MIN_SIZE: u64 = 10_000;

/// Makes the folder of the logs; on Unix its owner's group may read it, others not.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o750);
    builder.create(path)
}

/// A file that is appended to until it is full, and its one predecessor (`.lo_`).
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    max_size: u64,
    /// `None` until something is written, and after an error, so that the next line tries anew.
    open: Option<Open>,
    pending: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
}

/// Bytes gathered before they are written, unless [`RotatingFile::flush`] comes first.
const PENDING_LIMIT: usize = 64 * 1024;

impl RotatingFile {
    pub(super) fn new(path: PathBuf, max_size: u64) -> Self {
        Self { path, max_size, open: None, pending: Vec::new() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes one line. A line is never split over two files; one that is longer than a file has its own.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let held = self.size()? + self.pending.len() as u64;
        if held > 0 && held + line.len() as u64 > self.max_size {
            self.flush()?;
            self.rotate()?;
        }
        self.pending.extend_from_slice(line);
        if self.pending.len() >= PENDING_LIMIT { self.flush() } else { Ok(()) }
    }

    /// Hands to the system what was gathered. What cannot be written is lost, so that it does not pile up.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let open = self.opened()?;
        let written = open.file.write_all(&pending);
        open.size += pending.len() as u64;
        if written.is_err() {
            self.open = None;
        }
        self.pending = pending;
        self.pending.clear();
        written
    }

    fn size(&mut self) -> io::Result<u64> {
        Ok(self.opened()?.size)
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.path)?,
        };
        Ok(self.open.insert(open))
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Windows renames only what nobody holds open.
        self.open = None;
        fs::rename(&self.path, self.path.with_extension("lo_"))
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        let file = options.open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: usize) -> String {
        format!("{number:99}\n")
    }

    #[test]
    fn a_full_file_becomes_history_and_no_line_is_split_or_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut file = RotatingFile::new(path.clone(), MIN_SIZE);
        for number in 0..150 {
            file.write(line(number).as_bytes()).unwrap();
        }
        file.flush().unwrap();
        let (new, old) = (fs::read_to_string(&path).unwrap(), folder.path().join("a.lo_"));
        let old = fs::read_to_string(old).unwrap();
        assert_eq!(old, (0..100).map(line).collect::<String>());
        assert_eq!(new, (100..150).map(line).collect::<String>());
    }

    #[test]
    fn only_one_predecessor_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = RotatingFile::new(folder.path().join("a.log"), MIN_SIZE);
        for number in 0..350 {
            file.write(line(number).as_bytes()).unwrap();
        }
        file.flush().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        let old = fs::read_to_string(folder.path().join("a.lo_")).unwrap();
        assert!(old.starts_with(&line(200)));
    }

    #[test]
    fn a_restart_goes_on_where_the_file_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        for number in 0..101 {
            let mut file = RotatingFile::new(path.clone(), MIN_SIZE);
            file.write(line(number).as_bytes()).unwrap();
            file.flush().unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), line(100));
    }

    #[test]
    fn a_line_longer_than_a_file_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut file = RotatingFile::new(path.clone(), MIN_SIZE);
        let long = "x".repeat(30_000);
        file.write(b"before\n").unwrap();
        file.write(long.as_bytes()).unwrap();
        file.write(b"after\n").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("a.lo_")).unwrap(), long);
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
    }

    #[test]
    fn after_an_error_the_next_line_tries_anew() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("logs");
        let mut file = RotatingFile::new(inner.join("a.log"), MIN_SIZE);
        assert!(file.write(b"lost\n").is_err());
        fs::create_dir(&inner).unwrap();
        file.write(b"kept\n").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(inner.join("a.log")).unwrap(), "kept\n");
    }
}
