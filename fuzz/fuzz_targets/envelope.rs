//! The two-part body of a client message, and everything that is read from it before a
//! signature is checked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::message::RequestMessage;

const CONTENT_TYPE: &str = "multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = RequestMessage::parse(CONTENT_TYPE, data) {
        let _ = message.inflate(proto::limits::MESSAGE_BYTES);
    }
});
