//! The state folder: the last whole snapshot, and the changes after it, all as the site signed them.
//!
//! `snapshot.json` holds one signed document and is replaced whole; `changes.jsonl` holds one a line and only
//! grows, until the next whole snapshot. Both are verified again when they are read, so that whoever can
//! write here can take a gateway back to an older state of its site, and no further.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use proto::limits;
use proto::snapshot::Signed;
use runtime::config::private_file::{self, PrivateFileError};
use runtime::telemetry::Chain;
use tracing::warn;

use crate::log::COMPONENT;

/// Bytes of stored changes; beyond it a whole snapshot is asked for and nothing is added.
const CHANGES_BYTES: u64 = 16 * 1024 * 1024;

/// Largest stored snapshot that is read: its JSON stands inside JSON, where each quote takes two bytes.
const SNAPSHOT_FILE_BYTES: u64 = 2 * limits::SNAPSHOT_BYTES as u64 + 64 * 1024;

/// The files of the state folder.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    snapshot: PathBuf,
    changes: PathBuf,
    changes_bytes: u64,
    /// Said once, until the next whole snapshot.
    full: bool,
}

/// What the files hold; not verified yet.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) snapshot: Option<Signed>,
    pub(crate) deltas: Vec<Signed>,
}

/// Why something could not be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The snapshot could not be written.
    #[error("the snapshot cannot be stored")]
    Snapshot(#[source] PrivateFileError),
    /// The changes could not be written.
    #[error("changes cannot be stored in {}", path.display())]
    Changes {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The changes have grown beyond their bound.
    #[error("the stored changes have reached {CHANGES_BYTES} bytes")]
    Full,
}

impl SnapshotStore {
    /// The store in `folder`, and what it holds. What cannot be read is reported and counts as absent: the
    /// site publishes it again.
    pub(crate) fn open(folder: &Path) -> (Self, Stored) {
        let mut store = Self {
            snapshot: folder.join("snapshot.json"),
            changes: folder.join("changes.jsonl"),
            changes_bytes: 0,
            full: false,
        };
        let mut stored = Stored::default();
        if let Some(text) = read(&store.snapshot, SNAPSHOT_FILE_BYTES) {
            match serde_json::from_slice(&text) {
                Ok(signed) => stored.snapshot = Some(signed),
                Err(error) => {
                    warn!(
                        component = COMPONENT,
                        %error,
                        path = %store.snapshot.display(),
                        "stored snapshot is damaged"
                    );
                }
            }
        }
        if let Some(text) = read(&store.changes, 2 * CHANGES_BYTES) {
            for line in text.split_inclusive(|byte| *byte == b'\n') {
                // A line that cannot be read was cut off by the end of the process; nothing good follows it.
                let Ok(signed) = serde_json::from_slice(line) else { break };
                if !line.ends_with(b"\n") {
                    break;
                }
                stored.deltas.push(signed);
                store.changes_bytes += line.len() as u64;
            }
            if store.changes_bytes < text.len() as u64 {
                store.cut_changes();
            }
        }
        (store, stored)
    }

    /// Drops what stands behind the last whole line, so that the next one does not become a part of it.
    fn cut_changes(&self) {
        let cut = OpenOptions::new().write(true).open(&self.changes);
        if let Err(error) = cut.and_then(|file| file.set_len(self.changes_bytes)) {
            warn!(component = COMPONENT, error = %Chain(&self.failed(error)), "stored changes are damaged");
        }
    }

    /// Replaces everything by a whole snapshot.
    pub(crate) fn save_snapshot(&mut self, signed: &Signed) -> Result<(), StoreError> {
        private_file::write(&self.snapshot, json(signed)).map_err(StoreError::Snapshot)?;
        match fs::remove_file(&self.changes) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(error)),
            _ => {
                self.changes_bytes = 0;
                self.full = false;
                Ok(())
            }
        }
    }

    /// Adds changes behind those that are there, and waits for the disk once. When they do not fit any more
    /// it says so once, and drops them and all that follow.
    pub(crate) fn append(&mut self, deltas: &[&Signed]) -> Result<(), StoreError> {
        if deltas.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for signed in deltas {
            lines.extend(json(signed));
            lines.push(b'\n');
        }
        if self.changes_bytes + lines.len() as u64 > CHANGES_BYTES {
            return if std::mem::replace(&mut self.full, true) { Ok(()) } else { Err(StoreError::Full) };
        }
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(&self.changes).and_then(|mut file| {
            file.write_all(&lines)?;
            file.sync_data()
        });
        written.map_err(|error| self.failed(error))?;
        self.changes_bytes += lines.len() as u64;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::Changes { path: self.changes.clone(), source }
    }
}

fn json(signed: &Signed) -> Vec<u8> {
    serde_json::to_vec(signed).expect("text and byte strings have a JSON form")
}

/// The content of a file; `None` when there is none, or none that can be used.
fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let outcome = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut content));
    match outcome {
        Ok(_) if content.len() as u64 <= limit => Some(content),
        Ok(_) => {
            warn!(
                component = COMPONENT,
                path = %path.display(),
                limit,
                "stored publication is too large and not used"
            );
            None
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            warn!(
                component = COMPONENT,
                error = %Chain(&error),
                path = %path.display(),
                "stored publication cannot be read"
            );
            None
        }
    }
}
