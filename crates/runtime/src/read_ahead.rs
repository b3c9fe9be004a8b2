//! Reading more than was asked for, below TLS.
//!
//! rustls asks for 4 KiB at a time, so a record of 16 KiB costs five system calls, and so do a dozen requests that
//! arrive together. What a busy connection brings is taken in one piece here and handed on in rustls' portions.
//! A connection that idles, as nearly all do, has no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that reads as it is asked to, until [`ReadAhead::grow`].
#[derive(Debug)]
pub struct ReadAhead<I> {
    inner: I,
    buffer: Box<[u8]>,
    /// What of `buffer` has come and was not handed on yet.
    from: usize,
    to: usize,
}

impl<I> ReadAhead<I> {
    /// Without a buffer.
    pub fn new(inner: I) -> Self {
        Self { inner, buffer: Box::default(), from: 0, to: 0 }
    }

    /// From now on as many bytes as `bytes` are read at once. Does nothing where there is a buffer.
    pub fn grow(&mut self, bytes: usize) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; bytes].into_boxed_slice();
        }
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &I {
        &self.inner
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for ReadAhead<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.from == this.to {
            if out.remaining() >= this.buffer.len() {
                return Pin::new(&mut this.inner).poll_read(cx, out);
            }
            let mut buffer = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buffer))?;
            (this.from, this.to) = (0, buffer.filled().len());
        }
        let waiting = this.buffer.get(this.from..this.to).unwrap_or_default();
        let taken = waiting.len().min(out.remaining());
        out.put_slice(waiting.get(..taken).unwrap_or_default());
        this.from += taken;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for ReadAhead<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_come_whole_and_in_order_before_and_after_growing() {
        let (mut peer, own) = duplex(100_000);
        let mut own = ReadAhead::new(own);
        let sent: Vec<u8> = (0..50_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        peer.write_all(&sent).await.unwrap();
        drop(peer);
        let mut got = vec![0; 10];
        own.read_exact(&mut got).await.unwrap();
        assert_eq!((own.from, own.to), (0, 0), "nothing is read ahead without a buffer");
        own.grow(8_192);
        let mut portion = [0; 3_000];
        loop {
            let taken = own.read(&mut portion).await.unwrap();
            if taken == 0 {
                break;
            }
            got.extend_from_slice(&portion[..taken]);
        }
        assert!(got == sent);
    }

    #[tokio::test]
    async fn one_large_read_serves_many_small_ones() {
        let (mut peer, own) = duplex(100);
        let mut own = ReadAhead::new(own);
        own.grow(64);
        peer.write_all(b"abcdef").await.unwrap();
        assert_eq!(own.read_u8().await.unwrap(), b'a');
        assert_eq!((own.from, own.to), (1, 6));
        own.write_all(b"back").await.unwrap();
        let mut back = [0; 4];
        peer.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"back");
    }
}
