//! A file for what the site shows only once: a bundle, the text of a token.

use std::fs::OpenOptions;
use std::path::PathBuf;

use runtime::config::private_file;

use crate::exit::{Exit, Failure};

/// A file that is there already, empty and private, before the site is asked for what goes into
/// it: found unwritable only afterwards, the secret would be lost and its record would stay.
#[derive(Debug)]
pub(super) struct OnceFile {
    path: PathBuf,
    filled: bool,
}

impl OnceFile {
    /// Makes the file; never takes the place of another.
    pub(super) fn reserve(path: PathBuf) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(_) => Ok(Self { path, filled: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::new(
                Exit::Conflict,
                format!("{} is there already", path.display()),
            )
            .help(
                "Name another file, or remove it: what it holds may be the only copy. Nothing was changed.",
            )),
            Err(error) => {
                Err(Failure::new(Exit::Usage, format!("{} cannot be made: {error}", path.display()))
                    .help("Name a file in a folder that you may write to. Nothing was changed."))
            }
        }
    }

    /// Writes the content, and answers where it is.
    pub(super) fn fill(mut self, content: &[u8]) -> Result<PathBuf, Failure> {
        private_file::write(&self.path, content)
            .map_err(|error| Failure::from_error(Exit::Refused, &error))?;
        self.filled = true;
        Ok(self.path.clone())
    }
}

impl Drop for OnceFile {
    fn drop(&mut self) {
        if !self.filled {
            // It is empty; that it stays harms nobody.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_not_filled_is_gone_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle.json");
        drop(OnceFile::reserve(path.clone()).unwrap());
        assert!(!path.exists());
        assert_eq!(OnceFile::reserve(path.clone()).unwrap().fill(b"once").unwrap(), path);
        assert_eq!(private_file::read(&path).unwrap(), b"once");
    }

    #[test]
    fn no_file_is_ever_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "the only copy").unwrap();
        assert_eq!(OnceFile::reserve(path.clone()).unwrap_err().exit, Exit::Conflict);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "the only copy");
        let nowhere = folder.path().join("no-such-folder/token");
        assert_eq!(OnceFile::reserve(nowhere).unwrap_err().exit, Exit::Usage);
    }
}
