//! Configuration files, and the files and values that they name.
//!
//! Settings that all hosts share live in the site's database; a host's own are in its TOML file. The types
//! that a role reads should be `#[serde(deny_unknown_fields)]`, so that a misspelt key is an error here and
//! not a surprise later.

mod duration;
pub mod private_dir;
pub mod private_file;
mod size;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use duration::{HumanDuration, ParseDurationError};
pub use size::{ByteSize, ParseSizeError};

/// Largest configuration file that is read, in bytes. Ours have a few kilobytes; a larger one is a mistake in
/// the path.
pub const SIZE_LIMIT: u64 = 1024 * 1024;

/// Why a configuration file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("configuration file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is larger than [`SIZE_LIMIT`].
    #[error("configuration file {} is larger than {SIZE_LIMIT} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not TOML, or not what the program expects there.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line of the mistake, from 1.
        line: usize,
        /// Column of the mistake in characters, from 1.
        column: usize,
        /// What is wrong, in the words of the parser, on one line.
        message: String,
    },
}

/// Reads the TOML file at `path` into `T`.
pub fn load<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, ConfigError> {
    let path = path.as_ref();
    let text = read(path)?;
    toml::from_str(&text).map_err(|error| {
        let (line, column) = position(&text, error.span().map_or(0, |span| span.start));
        let message = error.message().replace('\n', ", ");
        ConfigError::Content { path: path.to_owned(), line, column, message }
    })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(SIZE_LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > SIZE_LIMIT {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// Line and column, both from 1, of the byte `offset` in `text`.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        listen: std::net::SocketAddr,
        #[serde(default)]
        life: Option<HumanDuration>,
        #[serde(default)]
        body: Option<ByteSize>,
    }

    fn load_text(text: &str) -> Result<Example, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roamgate.toml");
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn a_good_file_gives_its_values() {
        let example =
            load_text("listen = \"127.0.0.1:443\"\nlife = \"90 days\"\nbody = \"64 KiB\"\n").unwrap();
        assert_eq!(example.listen.port(), 443);
        assert_eq!(example.life.unwrap().get().as_secs(), 90 * 86_400);
        assert_eq!(example.body.unwrap().bytes(), 65_536);
    }

    #[test]
    fn a_mistake_is_named_with_file_line_and_column() {
        let error = load_text("listen = \"127.0.0.1:443\"\n  lifetime = 3\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("roamgate.toml:2:3: "), "{text}");
        assert!(text.contains("unknown field `lifetime`"), "{text}");
    }

    #[test]
    fn a_bad_value_is_named_where_it_stands() {
        let text = load_text("listen = \"127.0.0.1:443\"\nlife = 90\n").unwrap_err().to_string();
        assert!(text.contains(":2:8: "), "{text}");
        assert!(text.contains("90 days"), "the message shows how to write it: {text}");
    }

    #[test]
    fn a_missing_file_says_which() {
        let error = load::<Example>("/nowhere/roamgate.toml").unwrap_err();
        assert_eq!(error.to_string(), "configuration file /nowhere/roamgate.toml cannot be read");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn a_huge_file_is_refused() {
        let text = format!("# {}\n", "x".repeat(usize::try_from(SIZE_LIMIT).unwrap()));
        assert!(matches!(load_text(&text), Err(ConfigError::TooLarge { .. })));
    }
}
