//! Tokens, with no key that verifies: nothing may be accepted, and nothing may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::token::KeySet;

fuzz_target!(|text: &str| {
    assert!(KeySet::default().verify(text).is_err());
});
