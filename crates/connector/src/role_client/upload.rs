//! A request whose body is sent as it comes, while its answer may be read already.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{self, AsyncWriteExt, ReadHalf, WriteHalf};

use super::answer::{Answer, AnswerError, Reader};
use super::{Connection, Party, RoleClient, RoleIo};
use crate::request::Framing;

/// The half that the request goes out by.
#[derive(Debug)]
pub(crate) struct Sender {
    half: WriteHalf<RoleIo>,
    buffer: BytesMut,
}

/// The half that the answer comes in by.
#[derive(Debug)]
pub(crate) struct Split {
    half: ReadHalf<RoleIo>,
    party: Party,
}

/// An answer on a connection in two halves.
#[derive(Debug)]
pub(crate) struct SplitAnswer {
    /// The answer.
    pub(crate) answer: Answer<ReadHalf<RoleIo>>,
    party: Party,
}

pub(super) fn split(io: RoleIo, party: Party) -> (Sender, Split) {
    let (read, write) = io::split(io);
    (Sender { half: write, buffer: BytesMut::new() }, Split { half: read, party })
}

impl Sender {
    /// Where the head of the request is put; it leaves with the first part of the body.
    pub(crate) fn head(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Sends a part of the body, not empty.
    pub(crate) async fn send(&mut self, framing: Framing, part: &Bytes) -> io::Result<()> {
        if framing == Framing::Chunked {
            self.buffer.put_slice(format!("{:x}\r\n", part.len()).as_bytes());
        }
        self.buffer.put_slice(part);
        if framing == Framing::Chunked {
            self.buffer.put_slice(b"\r\n");
        }
        self.flush().await
    }

    /// The body is complete.
    pub(crate) async fn end(&mut self, framing: Framing) -> io::Result<()> {
        if framing == Framing::Chunked {
            self.buffer.put_slice(b"0\r\n\r\n");
        }
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.half.write_all_buf(&mut self.buffer).await?;
        self.half.flush().await
    }
}

impl Split {
    /// Waits for the head of the answer. `is_head`: it has no body by the request's method.
    pub(crate) async fn answer(self, is_head: bool) -> Result<SplitAnswer, AnswerError> {
        let Self { half, party } = self;
        match Reader::new(half, BytesMut::new()).answer(is_head).await {
            Ok(answer) => Ok(SplitAnswer { answer, party }),
            Err((error, _)) => Err(error),
        }
    }
}

impl RoleClient {
    /// Gives back a connection whose request was written, and whose answer was read, to the end.
    pub(crate) fn keep_split(&self, answer: SplitAnswer, sender: Sender) {
        if let Some((half, buffer, patience)) = answer.answer.into_reusable() {
            self.put_back(Connection::new(half.unsplit(sender.half), buffer, patience), &answer.party);
        }
    }
}
