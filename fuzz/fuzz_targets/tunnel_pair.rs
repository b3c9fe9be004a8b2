//! Both sides of the tunnel, their callers and a connection that delays, stalls and breaks: what was sent
//! arrives whole and in order, or both ends know.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tunnel_pair(data));
