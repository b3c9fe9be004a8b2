//! The end of a connection whose peer is still sending.
//!
//! A socket that is closed with unread bytes in it makes the system reset the connection, and a reset may
//! overtake the answer: the peer of a refused upload would see a broken connection in place of its 413. So
//! what is still coming is read and thrown away for a moment, after our side has said that it is done.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bytes that are thrown away; whoever sends more is reset after all.
const BYTES: usize = 1024 * 1024;
/// Time that the peer has to see the end.
const TIME: Duration = Duration::from_secs(2);
/// Bytes read at once; they stand on the stack.
const CHUNK: usize = 4096;

/// Reads what the peer still sends.
#[derive(Debug)]
pub(super) struct Linger {
    left: usize,
    /// Whether the peer may well be sending: then it is waited for before anything has come.
    expects: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Linger {
    pub(super) fn new(expects: bool) -> Self {
        Self { left: BYTES, expects, timer: None }
    }

    /// Ready when the peer is done, or has had its time. A peer of which nothing is expected and nothing has
    /// come is not waited for: nearly every connection ends that way.
    pub(super) fn poll<I: AsyncRead + Unpin>(&mut self, io: &mut I, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut space = [const { MaybeUninit::uninit() }; CHUNK];
            let mut buf = ReadBuf::uninit(&mut space);
            let read: Poll<io::Result<()>> = Pin::new(&mut *io).poll_read(cx, &mut buf);
            if read.is_pending() {
                if !self.expects && self.left == BYTES {
                    return Poll::Ready(());
                }
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(TIME)));
                return timer.as_mut().poll(cx);
            }
            let count = buf.filled().len();
            self.left = self.left.saturating_sub(count);
            if ready!(read).is_err() || count == 0 || self.left == 0 {
                return Poll::Ready(());
            }
        }
    }
}
