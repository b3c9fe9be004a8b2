//! What can go wrong: with the peer, and with a call.

use crate::frame::{FrameError, StreamId};

/// The peer broke the protocol. The tunnel is over; the next and last
/// [`next_bytes`](crate::Side::next_bytes) tells the peer why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Bytes that are no frame.
    #[error("bytes that are no frame")]
    Frame(#[from] FrameError),
    /// A frame before the Hello.
    #[error("frame before the hello")]
    BeforeHello,
    /// A Hello after the first frame.
    #[error("second hello")]
    SecondHello,
    /// A frame for a stream that was never opened; to a connector, anything but a Head.
    #[error("frame for stream {0}, which was never opened")]
    Unopened(StreamId),
    /// A Head that opens an id not higher than all before.
    #[error("stream {0} opened again or out of order")]
    ReusedStream(StreamId),
    /// A second Head on a stream, in the same direction.
    #[error("second head on stream {0}")]
    SecondHead(StreamId),
    /// More streams than this side's Hello allows.
    #[error("more streams than allowed")]
    TooManyStreams,
    /// A stream opened after the gateway's Goodbye.
    #[error("stream opened after goodbye")]
    OpenedAfterGoodbye,
    /// A body before its head.
    #[error("data before the head on stream {0}")]
    DataBeforeHead(StreamId),
    /// A body or head after its end.
    #[error("frame after the end of stream {0}")]
    AfterEnd(StreamId),
    /// Data beyond the credit granted.
    #[error("data beyond the credit")]
    CreditOverrun,
    /// More credit returned than was spent.
    #[error("more credit returned than was spent")]
    WindowOverflow,
    /// A Pong that answers no Ping.
    #[error("pong without ping")]
    UnexpectedPong,
    /// A control message beyond `max_control`.
    #[error("control message too long")]
    ControlTooLong,
    /// More resets, pings, goodbyes, control messages or late frames than the allowance.
    #[error("too many frames without use")]
    Nuisance,
}

/// Why no stream was opened. None of them is the peer's fault; the caller takes another tunnel or
/// refuses the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// One of the sides said goodbye.
    #[error("the tunnel is draining")]
    Draining,
    /// As many streams are open as the connector or this side's configuration allows.
    #[error("too many streams are open")]
    TooManyStreams,
    /// The connector's Hello has not come yet.
    #[error("the tunnel is not ready")]
    NotReady,
    /// The tunnel is lost.
    #[error("the tunnel is closed")]
    Closed,
    /// Longer than the connector takes.
    #[error("the head is longer than the connector takes")]
    HeadTooLarge,
}

/// Why an answer's head was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The stream was reset or the tunnel is lost: nobody waits for the answer.
    #[error("the stream is closed")]
    Closed,
    /// A head was given before.
    #[error("the stream was answered before")]
    AlreadyAnswered,
    /// Longer than the gateway takes.
    #[error("the head is longer than the gateway takes")]
    HeadTooLarge,
}

/// Why bytes of a body were not taken. None of them was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The stream was reset or has ended, or the tunnel is lost.
    #[error("the stream is closed")]
    Closed,
    /// The end was sent before.
    #[error("the body has ended")]
    Ended,
    /// A connector has to answer first.
    #[error("the head was not sent")]
    NoHead,
    /// More than [`writable`](crate::Side::writable). [`Event::Writable`](crate::Event::Writable) follows, unless
    /// a part of 16 KiB or more would be taken already.
    #[error("more bytes than are writable")]
    Full,
}

/// Why a control message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The tunnel is lost.
    #[error("the tunnel is closed")]
    Closed,
    /// A message has at least one byte.
    #[error("the control message is empty")]
    Empty,
    /// With what is waiting it would pass `control_queue`.
    #[error("too many bytes of control messages are waiting")]
    Full,
}
