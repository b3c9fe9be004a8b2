//! The XML header of a client message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::message::Header;

fuzz_target!(|text: &str| {
    if let Ok(header) = Header::parse(text) {
        // What was read can be read again.
        let _ = format!("{header:?}");
    }
});
