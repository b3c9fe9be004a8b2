//! Sends prepared requests over kept connections. Does as little as it can: it shares the machine with what it
//! measures.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Longest time for one answer: a site that takes longer has stopped.
const PATIENCE: Duration = Duration::from_mins(1);
/// Largest answer that is read.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// What came of a number of requests.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// From the first byte sent to the last one received.
    pub(super) elapsed: Duration,
    /// Answers with status 200 and a body.
    pub(super) good: usize,
    /// All others, by status and reason.
    pub(super) bad: BTreeMap<String, usize>,
    /// Bytes of the good answers' bodies.
    pub(super) bytes: usize,
    /// How long each took, in order.
    pub(super) waits: Vec<Duration>,
}

impl Outcome {
    /// Good answers a second.
    pub(super) fn rate(&self) -> f64 {
        per_second(self.good, self.elapsed)
    }

    /// How long all but this share took at most, in milliseconds.
    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.waits.len().saturating_sub(1);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (last as f64 * share).round() as usize;
        self.waits.get(at).map_or(0.0, |wait| wait.as_secs_f64() * 1000.0)
    }

    fn add(&mut self, other: Self) {
        self.good += other.good;
        self.bytes += other.bytes;
        self.waits.extend(other.waits);
        for (what, count) in other.bad {
            *self.bad.entry(what).or_default() += count;
        }
    }
}

/// So many in this time.
pub(super) fn per_second(count: usize, time: Duration) -> f64 {
    decimal(count) / time.as_secs_f64().max(1e-9)
}

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts and lengths here are far below 2^52")]
pub(super) fn decimal(count: usize) -> f64 {
    count as f64
}

/// Sends each request once, over this many connections, each with one request at a time.
pub(super) async fn send_all(
    address: SocketAddr,
    requests: Arc<[Bytes]>,
    connections: usize,
) -> io::Result<Outcome> {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections.min(requests.len()) {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for stream in streams {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        tasks.spawn(send_some(stream, requests, next));
    }
    let mut all = Outcome::default();
    while let Some(done) = tasks.join_next().await {
        all.add(done.map_err(io::Error::other)??);
    }
    all.elapsed = begun.elapsed();
    all.waits.sort_unstable();
    Ok(all)
}

async fn send_some(
    mut stream: TcpStream,
    requests: Arc<[Bytes]>,
    next: Arc<AtomicUsize>,
) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut buffer = Vec::with_capacity(16 * 1024);
    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
        let begun = Instant::now();
        let exchange = async {
            stream.write_all(request).await?;
            read_answer(&mut stream, &mut buffer).await
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer");
        let answer = tokio::time::timeout(PATIENCE, exchange).await.map_err(late)??;
        outcome.waits.push(begun.elapsed());
        match answer.refused {
            None => {
                outcome.good += 1;
                outcome.bytes += answer.body;
            }
            Some(why) => *outcome.bad.entry(why).or_default() += 1,
        }
    }
    Ok(outcome)
}

/// What there is to know of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// Bytes of the body.
    body: usize,
    /// Status and reason, where it is not what was asked for.
    refused: Option<String>,
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Answer> {
    buffer.clear();
    loop {
        if let Some((head, answer)) = parse_head(buffer)? {
            let whole = head + answer.body;
            if whole > ANSWER_BYTES {
                return Err(io::Error::other("an answer that is too long"));
            }
            while buffer.len() < whole {
                read_more(stream, buffer).await?;
            }
            return Ok(answer);
        }
        read_more(stream, buffer).await?;
    }
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Length of the head, and the answer; `None`: it is not all there yet.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, Answer)>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let wrong = || io::Error::other("an answer that is none");
    let head = std::str::from_utf8(bytes.get(..end).unwrap_or_default()).map_err(|_| wrong())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or_else(wrong)?;
    let (mut body, mut reason) = (0, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            body = value.trim().parse().map_err(|_| wrong())?;
        } else if name.eq_ignore_ascii_case(proto::reason::HEADER) {
            reason = Some(value.trim());
        }
    }
    let refused = match (status, reason) {
        ("200", None) if body > 0 => None,
        (status, reason) => Some(format!("{status} {}", reason.unwrap_or("empty"))),
    };
    Ok(Some((end + 4, Answer { body, refused })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_as_good_only_with_status_200_a_body_and_no_reason() {
        let refused = |head: &str| parse_head(head.as_bytes()).unwrap().unwrap().1.refused;
        assert_eq!(refused("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), None);
        assert_eq!(refused("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap(), "200 empty");
        let shed = "HTTP/1.1 503 Busy\r\nroamgate-reason: RG-5002\r\ncontent-length: 9\r\n\r\n";
        assert_eq!(refused(shed).unwrap(), "503 RG-5002");
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\n").unwrap(), None);
        assert!(parse_head(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn each_request_is_sent_once_whatever_the_connections() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let seen = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&seen);
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let counted = Arc::clone(&counted);
                    tokio::spawn(async move {
                        let mut byte = [0; 1];
                        while stream.read_exact(&mut byte).await.is_ok() {
                            counted.fetch_add(1, Ordering::Relaxed);
                            let _ =
                                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await;
                        }
                    });
                }
            });
            let requests: Arc<[Bytes]> = vec![Bytes::from_static(b"x"); 100].into();
            let outcome = send_all(address, requests, 8).await.unwrap();
            assert_eq!((outcome.good, outcome.bytes, outcome.waits.len()), (100, 300, 100));
            assert_eq!(seen.load(Ordering::Relaxed), 100);
            assert!(outcome.bad.is_empty() && outcome.quantile_ms(0.99) >= outcome.quantile_ms(0.5));
        });
    }
}
