//! What bounds the site: the bare signature, and one commit for each row.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rusqlite::{Connection, params};

use super::SpeedError;
use super::load::per_second;
use crate::process::cpu_of_trees;

/// Bytes of a stored certificate, as devices register them.
const CERTIFICATE_BYTES: usize = 800;

/// How fast a peer was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// A second, on all cores together.
    pub(super) rate: f64,
    /// A second of CPU time.
    pub(super) per_cpu: f64,
}

/// Signs a message of a token's length with a held RSA-2048 key, on every core, for this long.
/// `not_ours` are children whose CPU time is not the signatures'.
pub(super) fn sign(pkcs8: &[u8], time: Duration, not_ours: &[u32]) -> Result<Pace, SpeedError> {
    let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(SpeedError::key)?;
    let message = [b'a'; 640];
    let me = [std::process::id()];
    let used = || cpu_of_trees(&me).saturating_sub(cpu_of_trees(not_ours));
    let (before, begun) = (used(), Instant::now());
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let count = std::thread::scope(|scope| {
        let work = || {
            let (random, mut signature, mut count) =
                (SystemRandom::new(), vec![0; pair.public_modulus_len()], 0);
            while begun.elapsed() < time {
                pair.sign(&RSA_PKCS1_SHA256, &random, &message, &mut signature).map_err(SpeedError::key)?;
                count += 1;
            }
            Ok::<usize, SpeedError>(count)
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut sum = 0_usize;
        for worker in workers {
            sum += worker.join().map_err(|_| SpeedError::Worker)??;
        }
        Ok::<usize, SpeedError>(sum)
    })?;
    let (elapsed, cpu) = (begun.elapsed(), used().saturating_sub(before));
    Ok(Pace { rate: per_second(count, elapsed), per_cpu: per_second(count, cpu) })
}

/// Writes device rows one commit each, for this long: SQLite with a write-ahead log and `synchronous = FULL`,
/// in a file of its own in this folder. Rows a second.
pub(super) fn commit_one_by_one(folder: &Path, time: Duration) -> Result<f64, SpeedError> {
    let path = folder.join("peer.db");
    let connection = Connection::open(&path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE IF NOT EXISTS device (
            client_id BLOB PRIMARY KEY, name TEXT NOT NULL, thumbprint BLOB NOT NULL UNIQUE,
            certificate BLOB NOT NULL, registered_at INTEGER NOT NULL);",
    )?;
    let mut upsert = connection.prepare(
        "INSERT INTO device (client_id, name, thumbprint, certificate, registered_at)
         VALUES (randomblob(16), ?1, randomblob(32), ?2, ?3)
         ON CONFLICT (client_id) DO UPDATE SET name = excluded.name, certificate = excluded.certificate",
    )?;
    let certificate = vec![7_u8; CERTIFICATE_BYTES];
    let (begun, mut rows) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        upsert.execute(params![format!("PC{rows}"), certificate, rows])?;
        rows += 1;
    }
    Ok(per_second(rows as usize, begun.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_written_and_signatures_made() {
        let folder = tempfile::tempdir().unwrap();
        let rate = commit_one_by_one(folder.path(), Duration::from_millis(50)).unwrap();
        let rows: i64 = Connection::open(folder.path().join("peer.db"))
            .unwrap()
            .query_row("SELECT count(*) FROM device", [], |row| row.get(0))
            .unwrap();
        assert!(rate > 0.0 && rows > 0);
        let keys = super::super::device::Keys::make().unwrap();
        let pace = sign(&keys.pkcs8(), Duration::from_millis(200), &[]).unwrap();
        assert!(pace.rate > 1.0 && pace.per_cpu > 1.0, "{pace:?}");
    }
}
