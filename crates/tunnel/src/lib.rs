//! The protocol between connection point and gateway: frames, credit, timers; no I/O.
//!
//! Two engines, [`GatewaySide`] and [`ConnectorSide`], share everything but who opens streams. An
//! engine has no socket, clock or task. Its driver feeds it bytes and time, and after every
//! `&mut` call drains what came out:
//!
//! ```
//! # use std::time::Instant;
//! # use bytes::BytesMut;
//! # use tunnel::{Config, ConnectorSide};
//! # let now = Instant::now();
//! let mut side = ConnectorSide::new(Config::default(), now);
//! let mut out = BytesMut::new();
//! while let Some(event) = side.next_event() { /* hand it to the task of its stream */ }
//! side.next_bytes(&mut out); // one write of everything that waits, about 256 KiB at most
//! let wake_at = side.next_deadline(); // then sleep until bytes, a caller, or this
//! # assert!(wake_at.is_some() && !out.is_empty());
//! ```
//!
//! The bytes are described in [`frame`].

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

mod config;
mod connector_side;
mod credit;
mod error;
mod event;
pub mod frame;
mod gateway_side;
mod output;
mod parts;
mod queue;
mod receive;
mod side;
mod stream;
mod timer;
mod write;

pub use config::Config;
pub use connector_side::{Connector, ConnectorSide};
pub use error::{AnswerError, ControlError, OpenError, ProtocolError, SendError};
pub use event::{Event, LostReason, goodbye};
pub use frame::{FrameError, Hello, StreamId, StreamMap};
pub use gateway_side::{Gateway, GatewaySide};
pub use output::{Output, Pieces};
pub use parts::Parts;
pub use side::Side;
