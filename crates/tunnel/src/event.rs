//! What an engine tells its driver.

use bytes::Bytes;

use crate::ProtocolError;
use crate::frame::{Hello, StreamId};

/// What happened. Events of a stream come in order; after [`Reset`](Self::Reset), or after the end of both
/// directions, none follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer is there; a gateway may open streams from now on.
    Hello(Hello),
    /// At a connector: a new stream. At a gateway: the answer to one.
    Head {
        /// The stream.
        stream: StreamId,
        /// As the peer gave it; not yet parsed by anybody.
        head: Bytes,
        /// No body follows.
        end: bool,
    },
    /// Part of a body. Each byte is held against the peer's credit until [`consumed`](crate::Side::consumed).
    Data {
        /// The stream.
        stream: StreamId,
        /// At most 16 KiB; empty only at the end.
        bytes: Bytes,
        /// The body is complete.
        end: bool,
    },
    /// The peer gave up the stream, which is closed for the caller in both directions. Bytes not yet sent
    /// are dropped.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: u32,
    },
    /// A control message, at most `max_control` bytes.
    Control(Bytes),
    /// After [`SendError::Full`](crate::SendError::Full), or a `send` that left nothing writable: at least 16 KiB can be
    /// sent again.
    Writable(StreamId),
    /// The peer wants no new streams, see [`goodbye`]. Open ones go on.
    Goodbye {
        /// Highest stream id that the peer opened or saw; 0: none.
        last: u32,
        /// Why.
        code: u32,
        /// The peer's words: at most 256 bytes, no control characters.
        text: String,
    },
    /// The last event: the tunnel is over, and with it all streams that were open.
    Lost(LostReason),
}

/// Why a tunnel is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LostReason {
    /// Both sides had said goodbye and nothing was open.
    #[error("the tunnel ended as agreed")]
    Finished,
    /// The driver reported the end of the connection, with more to come.
    #[error("the connection was cut")]
    Cut,
    /// The peer was silent, also when asked.
    #[error("the peer fell silent")]
    Silence,
    /// The peer did not introduce itself in time.
    #[error("no hello in time")]
    NoHello,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol")]
    Protocol(#[from] ProtocolError),
}

/// Codes of a Goodbye. The roles' own begin at 16.
pub mod goodbye {
    /// The process is stopping.
    pub const STOPPING: u32 = 0;
    /// The other side violated the protocol.
    pub const VIOLATION: u32 = 1;
    /// All stream ids were used; a fresh connection has them again.
    pub const IDS_SPENT: u32 = 2;
    /// Answers the other side's goodbye; sent by the engine itself.
    pub const AGREED: u32 = 3;
}
