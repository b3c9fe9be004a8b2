//! Keys for devices that are played, made once and kept in a file.
//!
//! A fresh RSA key of 2048 bits costs a tenth of a second and more, so five thousand of them cost minutes.
//! They are good for nothing but playing devices, and each is a real key with a certificate of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use client::identity::{IdentityError, KeyMaterial};
use proto::time::Timestamp;
use runtime::Clock;

/// Longest key or certificate in the file, in bytes; either has some 1,200.
const LONGEST: u32 = 16 * 1024;
/// Most keys that are made for one run.
pub(crate) const MOST: u32 = 50_000;

/// The pool of keys could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// The file cannot be read or written.
    #[error("the file of keys {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A key could not be made.
    #[error("a device's key could not be made")]
    Make(#[source] IdentityError),
}

/// The first `wanted` keys of the pool; those that are missing are made by all cores and added to the file.
pub(crate) fn take(folder: &Path, wanted: u32) -> Result<Vec<KeyMaterial>, KeysError> {
    let path = folder.join("rsa2048.keys");
    let failed = |source| KeysError::File { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file =
        OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&path).map_err(failed)?;
    let (keys, _) = read(&file, wanted).map_err(failed)?;
    if keys.len() >= wanted as usize {
        return Ok(keys);
    }
    // One run at a time makes keys; what another one made meanwhile counts.
    file.lock().map_err(failed)?;
    file.rewind().map_err(failed)?;
    let (mut keys, whole) = read(&file, wanted).map_err(failed)?;
    let missing = wanted.saturating_sub(u32::try_from(keys.len()).unwrap_or(u32::MAX));
    if missing > 0 {
        // A run that was ended in the middle of a key leaves a piece of it behind.
        file.set_len(whole).map_err(failed)?;
        eprintln!("making {missing} device keys, once; {} will keep them", path.display());
        make(missing, |key| {
            write(&mut file, &key).map_err(failed)?;
            keys.push(key);
            Ok(())
        })?;
    }
    Ok(keys)
}

/// Makes keys on all cores and hands over each as it is ready.
fn make(count: u32, mut done: impl FnMut(KeyMaterial) -> Result<(), KeysError>) -> Result<(), KeysError> {
    let cores =
        std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let now = Timestamp::from_micros(Clock::system().now());
    std::thread::scope(|scope| {
        let (ready, made) = mpsc::sync_channel(64);
        for core in 0..cores {
            let ready = ready.clone();
            let share = count / cores + u32::from(core < count % cores);
            scope.spawn(move || {
                // When the receiver is gone, something failed and nobody wants more.
                let _ = (0..share).try_for_each(|_| ready.send(KeyMaterial::generate(now)));
            });
        }
        drop(ready);
        for (number, key) in made.iter().enumerate() {
            done(key.map_err(KeysError::Make)?)?;
            if (number + 1) % 500 == 0 {
                eprintln!("  {} of {count}", number + 1);
            }
        }
        Ok(())
    })
}

/// At most so many keys, and how many bytes of the file whole keys take.
fn read(file: &File, wanted: u32) -> io::Result<(Vec<KeyMaterial>, u64)> {
    let mut reader = BufReader::new(file);
    let (mut keys, mut whole) = (Vec::new(), 0);
    while keys.len() < wanted as usize {
        let (Some(pkcs8), Some(certificate)) = (part(&mut reader)?, part(&mut reader)?) else { break };
        whole += 8 + pkcs8.len() as u64 + certificate.len() as u64;
        keys.push(KeyMaterial { pkcs8: pkcs8.into(), certificate });
    }
    Ok((keys, whole))
}

/// The next part; `None` at the end of the file and for one that is cut off.
fn part(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut read = |buffer: &mut [u8]| match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    if !read(&mut length)? {
        return Ok(None);
    }
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "this is no file of keys"));
    }
    let mut bytes = vec![0; length as usize];
    Ok(read(&mut bytes)?.then_some(bytes))
}

fn write(file: &mut File, key: &KeyMaterial) -> io::Result<()> {
    let mut record = Vec::with_capacity(3000);
    for part in [&*key.pkcs8, &key.certificate] {
        let length = u32::try_from(part.len()).map_err(io::Error::other)?;
        record.extend_from_slice(&length.to_be_bytes());
        record.extend_from_slice(part);
    }
    file.write_all(&record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_a_piece_of_one_is_thrown_away() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(folder.path(), 2).unwrap();
        let file = folder.path().join("rsa2048.keys");
        let length = std::fs::metadata(&file).unwrap().len();
        // As a run leaves it that is ended while it writes.
        OpenOptions::new().append(true).open(&file).unwrap().write_all(&[0, 0, 4, 0xb0, 1, 2, 3]).unwrap();
        let again = take(folder.path(), 3).unwrap();
        assert!(first.iter().zip(&again).all(|(one, other)| one.certificate == other.certificate));
        assert_eq!(again.len(), 3);
        let cut = std::fs::metadata(&file).unwrap().len();
        assert!(cut > length);
        let third = take(folder.path(), 3).unwrap();
        assert_eq!(third[2].certificate, again[2].certificate);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), cut);
        assert_eq!(take(folder.path(), 1).unwrap().len(), 1);
    }

    #[test]
    fn something_else_is_not_taken_for_keys() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rsa2048.keys"), "not keys at all").unwrap();
        assert!(matches!(take(folder.path(), 1), Err(KeysError::File { .. })));
    }
}
