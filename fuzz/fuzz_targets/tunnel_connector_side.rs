//! A connector's side of the tunnel under a hostile peer and arbitrary calls, held against a second account
//! of the protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tunnel_connector_side(data));
