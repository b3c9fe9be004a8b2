//! Folders that hold keys and tokens.

use std::fs::{self, DirBuilder};
use std::io;
use std::path::{Path, PathBuf};

/// Why a folder cannot hold private files.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirError {
    /// It could not be made or looked at.
    #[error("folder {} cannot be used", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others may put files into it, so that they could replace ours.
    #[error("folder {} can be written by others (mode {mode:04o}); run: chmod go-w {}", path.display(), path.display())]
    TooOpen {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Makes the folder at `path` with mode 0700, and those above it that are missing.
///
/// A folder that exists keeps its mode, since its maker chose it and each private file in it is 0600 by
/// itself; but one in which others may write is refused (unless it is sticky, as `/tmp` is). Windows inherits
/// the access list of the folder above.
pub fn create(path: impl AsRef<Path>) -> Result<(), PrivateDirError> {
    let path = path.as_ref();
    let failed = |source| PrivateDirError::Io { path: path.to_owned(), source };
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed)?;
    let metadata = fs::metadata(path).map_err(failed)?;
    check(path, &metadata)
}

#[cfg(unix)]
fn check(path: &Path, metadata: &fs::Metadata) -> Result<(), PrivateDirError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o7777;
    let (others_write, sticky) = (mode & 0o022 != 0, mode & 0o1000 != 0);
    if others_write && !sticky {
        return Err(PrivateDirError::TooOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "other systems can refuse")]
fn check(_: &Path, _: &fs::Metadata) -> Result<(), PrivateDirError> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_folder_and_its_parents_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/keys");
        create(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o700, 0o700));
        create(&path).expect("making it again is no mistake");
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused_unless_it_is_sticky() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open");
        fs::create_dir(&path).unwrap();
        for (bits, accepted) in [(0o755, true), (0o775, false), (0o777, false), (0o1777, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            assert_eq!(create(&path).is_ok(), accepted, "mode {bits:o}");
        }
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(create(&path), Err(PrivateDirError::Io { .. })));
    }
}
