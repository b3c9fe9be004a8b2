//! Files that hold keys and tokens: for their owner only, and never half written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Largest private file that is read, in bytes. Keys and tokens have a few kilobytes; a gateway's bundle
/// holds what its site published, which may be tens of megabytes when many thousand devices are blocked.
pub const SIZE_LIMIT: u64 = 128 * 1024 * 1024;

/// Why a private file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The operating system refused.
    #[error("private file {} cannot be {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is a folder, a device or the like.
    #[error("{} is not a file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Others than its owner may use it.
    #[error(
        "private file {} is open to others (mode {mode:04o}); run: chmod 600 {}",
        path.display(),
        path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than [`SIZE_LIMIT`].
    #[error("private file {} is larger than {SIZE_LIMIT} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a file that nobody but its owner may use: one whose mode is wider than 0600 is refused, since its
/// content may be known to others already. (Windows: no check; the access list of its folder counts.)
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>, PrivateFileError> {
    let path = path.as_ref();
    let failed = |source| PrivateFileError::Io { path: path.to_owned(), action: "read", source };
    let file = File::open(path).map_err(failed)?;
    // The open file is asked, not the path: the path may name another file a moment later.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(PrivateFileError::NotAFile { path: path.to_owned() });
    }
    check(path, &metadata)?;
    let mut content = Vec::new();
    file.take(SIZE_LIMIT + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > SIZE_LIMIT {
        return Err(PrivateFileError::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

/// Puts `content` at `path` with mode 0600, in place of what was there.
///
/// Whoever reads at any moment, also after a power cut, finds the old content or the new, never a part: the
/// bytes go to a new file beside it, to the disk, and only then under the name.
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<(), PrivateFileError> {
    let path = path.as_ref();
    replace(path, content.as_ref()).map_err(|source| PrivateFileError::Io {
        path: path.to_owned(),
        action: "written",
        source,
    })
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(format!(".{}.tmp", Uuid::new_v4().simple()));
    let temporary = folder.join(temporary_name);

    let written = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(folder)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A rename is on the disk only when its folder is.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems can fail")]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn check(path: &Path, metadata: &fs::Metadata) -> Result<(), PrivateFileError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & !0o600 != 0 {
        return Err(PrivateFileError::TooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems can refuse")]
fn check(_: &Path, _: &fs::Metadata) -> Result<(), PrivateFileError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        write(&path, "old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "").unwrap();
        let error = write(&path, "new").unwrap_err();
        assert!(error.to_string().ends_with("taken cannot be written"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_not_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Err(PrivateFileError::NotAFile { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn files_open_to_others_are_refused_with_the_remedy() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        write(&path, "secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        for (bits, accepted) in [(0o400, true), (0o600, true), (0o640, false), (0o604, false), (0o700, false)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            match read(&path) {
                Ok(content) => assert!(accepted && content == b"secret", "mode {bits:o}"),
                Err(error) => {
                    assert!(!accepted, "mode {bits:o}");
                    assert!(error.to_string().contains("chmod 600 "), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_huge_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge");
        write(&path, "").unwrap();
        // A hole: it is long and takes no room.
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(SIZE_LIMIT + 1).unwrap();
        assert!(matches!(read(&path), Err(PrivateFileError::TooLarge { .. })));
    }
}
