//! Messages on the site link: four bytes of length, big-endian, then so many bytes of JSON. Length 0 is a sign of
//! life.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Silence after which the other side is taken for dead: three of its signs of life.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// Most bytes that are made room for at once: a stated length costs nothing before its bytes come.
const STEP: usize = 64 * 1024;

/// Why no message came or went.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// Longer than allowed.
    #[error("a message of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// The connection ended in the middle of a message.
    #[error("the connection ended in the middle of a message")]
    Cut,
    /// Nothing came, or nothing could be written, for too long.
    #[error("the other side was silent for too long")]
    Silent,
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

/// The next message, at most `limit` bytes; `None` at the orderly end. An error after `silence` without a byte.
/// Not to be dropped in the middle.
pub(super) async fn read<R: AsyncRead + Unpin>(
    reader: &mut R,
    limit: usize,
    silence: Duration,
) -> Result<Option<BytesMut>, FrameError> {
    let mut header = BytesMut::with_capacity(4);
    if !fill(reader, &mut header, 4, silence).await? {
        return if header.is_empty() { Ok(None) } else { Err(FrameError::Cut) };
    }
    let length = header.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    if length > limit {
        return Err(FrameError::TooLong(length));
    }
    let mut message = BytesMut::new();
    if fill(reader, &mut message, length, silence).await? { Ok(Some(message)) } else { Err(FrameError::Cut) }
}

/// Reads until `bytes` holds `length` bytes; `false`: the connection ended before.
async fn fill<R: AsyncRead + Unpin>(
    reader: &mut R,
    bytes: &mut BytesMut,
    length: usize,
    silence: Duration,
) -> Result<bool, FrameError> {
    while bytes.len() < length {
        let want = (length - bytes.len()).min(STEP);
        bytes.reserve(want);
        let mut part = (&mut *reader).take(want as u64);
        let read = timeout(silence, part.read_buf(bytes)).await.map_err(|_| FrameError::Silent)?;
        if read.map_err(FrameError::Io)? == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes one message; an empty one is a sign of life.
pub(super) async fn write<W: AsyncWrite + Unpin>(writer: &mut W, message: &Bytes) -> Result<(), FrameError> {
    let length = u32::try_from(message.len()).map_err(|_| FrameError::TooLong(message.len()))?;
    let write = async {
        writer.write_all(&length.to_be_bytes()).await?;
        writer.write_all(message).await?;
        writer.flush().await
    };
    timeout(SILENCE, write).await.map_err(|_| FrameError::Silent)?.map_err(FrameError::Io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_back_as_they_were_written_and_the_end_is_told_from_a_cut() {
        let (mut near, mut far) = tokio::io::duplex(16);
        let long = Bytes::from(vec![7; 200_000]);
        let written = long.clone();
        let writer = tokio::spawn(async move {
            write(&mut near, &Bytes::from_static(b"{}")).await.unwrap();
            write(&mut near, &Bytes::new()).await.unwrap();
            write(&mut near, &written).await.unwrap();
            near
        });
        assert_eq!(read(&mut far, 10, SILENCE).await.unwrap().unwrap(), "{}");
        assert!(read(&mut far, 10, SILENCE).await.unwrap().unwrap().is_empty());
        assert_eq!(read(&mut far, 200_000, SILENCE).await.unwrap().unwrap(), long);
        let mut near = writer.await.unwrap();
        near.write_all(&[0, 0, 0, 5, 1]).await.unwrap();
        drop(near);
        assert!(matches!(read(&mut far, 10, SILENCE).await, Err(FrameError::Cut)));
        assert!(read(&mut far, 10, SILENCE).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_stated_length_beyond_the_bound_is_refused_before_its_bytes_come() {
        let (mut near, mut far) = tokio::io::duplex(16);
        near.write_all(&[0xFF; 4]).await.unwrap();
        assert!(matches!(read(&mut far, 1000, SILENCE).await, Err(FrameError::TooLong(0xFFFF_FFFF))));
    }

    #[tokio::test]
    async fn silence_ends_the_wait() {
        let (_near, mut far) = tokio::io::duplex(16);
        assert!(matches!(read(&mut far, 1000, Duration::from_millis(5)).await, Err(FrameError::Silent)));
    }
}
