//! A minimal, strict reader of HTTP/1.1 answers.

use super::BODY_BYTE;

/// Longest head of an answer in bytes.
const HEAD_LIMIT: usize = 16 * 1024;
/// Most of a long body that is compared byte by byte; of the rest the length is checked.
const COMPARED: u64 = 4096;

/// Reads one answer after the other from the bytes of a connection.
#[derive(Debug)]
pub(super) struct AnswerReader {
    head: Vec<u8>,
    /// Bytes of the body that are still to come, once the head is read.
    left: Option<u64>,
    expected: u64,
    may_close: bool,
}

/// What became of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// More must come.
    More,
    /// The answer is complete with the last of these bytes.
    Done,
}

impl AnswerReader {
    /// For answers with bodies of so many bytes.
    pub(super) fn new(expected: u64) -> Self {
        Self { head: Vec::with_capacity(1024), left: None, expected, may_close: false }
    }

    /// For a connection that is used once: the server may say that it closes it. nginx always says so after a
    /// client certificate that it cannot judge.
    pub(super) fn may_close(self) -> Self {
        Self { may_close: true, ..self }
    }

    /// Takes bytes. Bytes behind the end of an answer are an error: nothing was asked that they could answer.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> Result<Progress, String> {
        if self.left.is_none() {
            let before = self.head.len();
            // The end of the head may lie across two reads.
            let from = before.saturating_sub(3);
            self.head.extend_from_slice(bytes);
            let found = self.head.get(from..).and_then(find_end).map(|at| from + at);
            let Some(end) = found else {
                let is_short = self.head.len() <= HEAD_LIMIT;
                return if is_short { Ok(Progress::More) } else { Err("head too long".to_owned()) };
            };
            let length = read_head(self.head.get(..end).unwrap_or_default(), self.may_close)?;
            if length != self.expected {
                return Err(format!("body of {length} bytes"));
            }
            bytes = bytes.get(end - before..).unwrap_or_default();
            self.head.clear();
            self.left = Some(length);
        }
        let left = self.left.unwrap_or(0);
        let took = bytes.len() as u64;
        if took > left {
            return Err("bytes behind the answer".to_owned());
        }
        let is_compared = self.expected - left < COMPARED;
        if is_compared && bytes.iter().any(|byte| *byte != BODY_BYTE) {
            return Err("altered body".to_owned());
        }
        if took == left {
            self.left = None;
            return Ok(Progress::Done);
        }
        self.left = Some(left - took);
        Ok(Progress::More)
    }
}

/// The length of the head, its empty line included.
fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Checks the head; the length of the body. Only 200 with one `Content-Length` will do.
fn read_head(head: &[u8], may_close: bool) -> Result<u64, String> {
    let text = std::str::from_utf8(head).map_err(|_| "head is not text".to_owned())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 200 ") {
        let reason = text.split("\r\n").find(|line| line.to_ascii_lowercase().starts_with("roamgate-reason"));
        return Err(format!("{status} {}", reason.unwrap_or_default()).trim().to_owned());
    }
    let mut length = None;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| "header without a colon".to_owned())?;
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("body in chunks".to_owned());
        }
        let closes = name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close");
        if closes && !may_close {
            return Err("connection is to be closed".to_owned());
        }
        if name.eq_ignore_ascii_case("content-length") {
            let number = value.trim().parse().map_err(|_| "length is no number".to_owned())?;
            if length.replace(number).is_some() {
                return Err("two lengths".to_owned());
            }
        }
    }
    length.ok_or_else(|| "no length".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 3\r\n\r\nrrr";

    #[test]
    fn an_answer_in_any_pieces_is_read_and_the_next_one_too() {
        let mut reader = AnswerReader::new(3);
        for cut in 1..ANSWER.len() {
            let (one, two) = ANSWER.split_at(cut);
            assert_eq!(reader.receive(one), Ok(Progress::More), "{cut}");
            assert_eq!(reader.receive(two), Ok(Progress::Done), "{cut}");
        }
        for byte in &ANSWER[..ANSWER.len() - 1] {
            assert_eq!(reader.receive(&[*byte]), Ok(Progress::More));
        }
        assert_eq!(reader.receive(b"r"), Ok(Progress::Done));
    }

    #[test]
    fn what_was_not_expected_is_named() {
        for (answer, error) in [
            (
                "HTTP/1.1 404 Nothing\r\nroamgate-reason: RG-1\r\n\r\n",
                "HTTP/1.1 404 Nothing roamgate-reason: RG-1",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nrrrr", "body of 4 bytes"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nrrrr", "bytes behind the answer"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nrxr", "altered body"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nrrr", "two lengths"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nrrr",
                "connection is to be closed",
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrrr\r\n0\r\n\r\n", "body in chunks"),
            ("HTTP/1.1 200 OK\r\n\r\n", "no length"),
            ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nrrr", "HTTP/1.0 200 OK"),
        ] {
            assert_eq!(AnswerReader::new(3).receive(answer.as_bytes()), Err(error.to_owned()));
        }
        assert!(AnswerReader::new(3).receive("x".repeat(HEAD_LIMIT + 1).as_bytes()).is_err());
    }

    #[test]
    fn a_connection_that_is_used_once_may_be_closed() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nrrr";
        assert!(AnswerReader::new(3).receive(answer).is_err());
        assert_eq!(AnswerReader::new(3).may_close().receive(answer), Ok(Progress::Done));
    }

    #[test]
    fn an_empty_body_is_complete_with_its_head() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(AnswerReader::new(0).receive(answer), Ok(Progress::Done));
    }
}
