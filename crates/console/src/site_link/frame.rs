//! Messages on the wire: four bytes of length (big-endian), then JSON; length 0 is a sign of life.

use std::io;
use std::time::Duration;

use proto::limits::{LINK_MESSAGE_BYTES, SNAPSHOT_BYTES};
use proto::link::{Down, Up};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Time between two signs of life.
pub(super) const SIGN_EVERY: Duration = Duration::from_secs(5);
/// Silence, or a peer that takes nothing, after which the link counts as dead: three signs missed.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// Bytes that are written before the peer is seen to take some. A whole snapshot may take longer
/// than [`SILENCE`] on a slow line without anybody being dead.
const PIECE: usize = 64 * 1024;

/// Why no message came or went.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The connection ended or broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// Nothing came, or nothing was taken, for [`SILENCE`].
    #[error("the other side was silent for {} seconds", SILENCE.as_secs())]
    Silent,
    /// Longer than any message may be.
    #[error("a message of {length} bytes is longer than {limit}")]
    TooLong {
        /// How long.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Not a message of this protocol.
    #[error("a message is not understood")]
    Content(#[from] serde_json::Error),
}

/// Reads the next message. `None` is a sign of life.
pub(super) async fn read<R: AsyncRead + Unpin>(io: &mut R) -> Result<Option<Up>, FrameError> {
    read_within(io, SILENCE).await
}

async fn read_within<R: AsyncRead + Unpin>(io: &mut R, silence: Duration) -> Result<Option<Up>, FrameError> {
    let length = timeout(silence, io.read_u32()).await.map_err(|_| FrameError::Silent)??;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length == 0 {
        return Ok(None);
    }
    if length > LINK_MESSAGE_BYTES {
        return Err(FrameError::TooLong { length, limit: LINK_MESSAGE_BYTES });
    }
    let mut text = vec![0; length];
    timeout(silence, io.read_exact(&mut text)).await.map_err(|_| FrameError::Silent)??;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Writes a message.
pub(super) async fn write<W: AsyncWrite + Unpin>(io: &mut W, message: &Down) -> Result<(), FrameError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - 4;
    let prefix = u32::try_from(length).ok().filter(|_| length <= SNAPSHOT_BYTES);
    let prefix = prefix.ok_or(FrameError::TooLong { length, limit: SNAPSHOT_BYTES })?;
    frame.splice(..4, prefix.to_be_bytes());
    write_bytes(io, &frame, SILENCE).await
}

/// Writes a sign of life.
pub(super) async fn write_sign<W: AsyncWrite + Unpin>(io: &mut W) -> Result<(), FrameError> {
    write_bytes(io, &[0; 4], SILENCE).await
}

async fn write_bytes<W: AsyncWrite + Unpin>(
    io: &mut W,
    bytes: &[u8],
    silence: Duration,
) -> Result<(), FrameError> {
    for piece in bytes.chunks(PIECE) {
        let write = async {
            io.write_all(piece).await?;
            io.flush().await
        };
        timeout(silence, write).await.map_err(|_| FrameError::Silent)??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signs_of_life_messages_and_nonsense_are_told_apart() {
        let hello = br#"{"type":"hello","program":"1","version":0}"#;
        let mut wire = vec![0, 0, 0, 0];
        wire.extend(u32::try_from(hello.len()).unwrap().to_be_bytes());
        wire.extend(hello);
        wire.extend([0, 0, 0, 2]);
        wire.extend(b"{}");
        let mut wire = wire.as_slice();
        assert!(read(&mut wire).await.unwrap().is_none());
        assert!(matches!(read(&mut wire).await.unwrap(), Some(Up::Hello { version: 0, .. })));
        assert!(matches!(read(&mut wire).await, Err(FrameError::Content(_))));
        assert!(matches!(read(&mut wire).await, Err(FrameError::Io(_))));
    }

    #[tokio::test]
    async fn a_length_beyond_the_bound_is_refused_before_a_byte_of_it_is_read() {
        let announced = u32::try_from(LINK_MESSAGE_BYTES + 1).unwrap().to_be_bytes();
        assert!(matches!(read(&mut announced.as_slice()).await, Err(FrameError::TooLong { .. })));
    }

    #[tokio::test]
    async fn silence_ends_a_link_in_either_direction() {
        let soon = Duration::from_millis(10);
        let (mut near, _far) = tokio::io::duplex(8);
        assert!(matches!(read_within(&mut near, soon).await, Err(FrameError::Silent)));
        assert!(matches!(write_bytes(&mut near, &[0; 9], soon).await, Err(FrameError::Silent)));
    }
}
