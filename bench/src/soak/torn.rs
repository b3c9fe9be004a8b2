//! Connections that are torn: in the handshake, after half a request's head, in the middle of a body. Each
//! torn one is followed by a whole one.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Work;
use super::mix::Outcome;
use crate::crowd::connection::Holder;

/// Bytes of a body that is announced, and those of it that are sent.
const ANNOUNCED: usize = 100_000;
const SENT: usize = 3_000;
/// A ClientHello as far as it goes: a record of 512 bytes is announced, and then nothing follows.
const HALF_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
/// Longest time for one of them.
const LIMIT: Duration = Duration::from_secs(20);
/// How long a part is given to arrive before its connection is torn.
const ARRIVE: Duration = Duration::from_millis(5);

/// Where a connection is torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Handshake,
    Head,
    Body,
}

impl Cut {
    /// Where connect number `number` is torn, if it is: every other one, each place in turn.
    fn of(number: u64) -> Option<Self> {
        match (number % 2, number / 2 % 3) {
            (1, 0) => Some(Self::Handshake),
            (1, 1) => Some(Self::Head),
            (1, _) => Some(Self::Body),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Handshake => "in the handshake",
            Self::Head => "after half a head",
            Self::Body => "in the middle of a body",
        }
    }
}

/// Makes connect number `number`.
pub(super) async fn connect(work: &Work, number: u64) -> Outcome {
    let Some(holder) = work.holder(number) else { return Outcome::Unexpected("no device".to_owned()) };
    let Some(cut) = Cut::of(number) else { return whole(work, holder).await };
    // Half of them end in order, half with a reset.
    let resets = (number / 6).is_multiple_of(2);
    match tokio::time::timeout(LIMIT, tear(work, holder, cut, resets)).await {
        Ok(Ok(())) => Outcome::Torn(cut.name()),
        Ok(Err(error)) => Outcome::Unexpected(format!("{}: {}", cut.name(), error.kind())),
        Err(_) => Outcome::Unexpected(format!("{}: not in time", cut.name())),
    }
}

/// A connection with one good request.
async fn whole(work: &Work, holder: &Holder) -> Outcome {
    let mut open = match work.gateway.open(holder, work.source()).await {
        Ok(open) => open,
        Err(failure) => return Outcome::Unexpected(failure.label()),
    };
    match open.ask(holder.plain(&work.gateway)).await {
        Ok(latency) => Outcome::Good(latency),
        Err(failure) => Outcome::Unexpected(failure.label()),
    }
}

async fn tear(work: &Work, holder: &Holder, cut: Cut, resets: bool) -> io::Result<()> {
    if cut == Cut::Handshake {
        let mut stream = work.gateway.connect(work.source()).await?;
        stream.write_all(HALF_HELLO).await?;
        tokio::time::sleep(ARRIVE).await;
        return end(&stream, resets);
    }
    let shaken = work.gateway.handshake(holder, work.source()).await;
    let mut stream = shaken.map_err(|failure| io::Error::other(failure.label()))?;
    let token = holder.bearer().to_str().unwrap_or_default();
    let path = work.gateway.path("/ccm_system_tokenauth/request");
    let head = format!(
        "CCM_POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {token}\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {ANNOUNCED}\r\n\r\n",
        work.gateway.authority()
    );
    let sent = match cut {
        Cut::Head => head.get(..head.len() / 2).unwrap_or_default().as_bytes().to_vec(),
        Cut::Handshake | Cut::Body => [head.as_bytes(), &[b'x'; SENT]].concat(),
    };
    stream.write_all(&sent).await?;
    stream.flush().await?;
    // Whatever comes by now is read and thrown away; that nothing comes is as good.
    let mut seen = [0; 512];
    let _ = tokio::time::timeout(ARRIVE, stream.read(&mut seen)).await;
    end(stream.get_ref().0, resets)
}

/// Sets how the connection ends when it is dropped: in order, though without a word of TLS, or by a reset.
fn end(stream: &TcpStream, resets: bool) -> io::Result<()> {
    if resets {
        SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_connection_is_torn_in_each_place_equally_often() {
        let cuts: Vec<_> = (0..1200).map(Cut::of).collect();
        assert_eq!(cuts.iter().filter(|cut| cut.is_none()).count(), 600);
        for cut in [Cut::Handshake, Cut::Head, Cut::Body] {
            assert_eq!(cuts.iter().filter(|one| **one == Some(cut)).count(), 200);
            // In order and by a reset, either as often as the other.
            let numbers = (0..1200).filter(|number| Cut::of(*number) == Some(cut));
            assert_eq!(numbers.filter(|number| (number / 6).is_multiple_of(2)).count(), 100);
        }
    }
}
