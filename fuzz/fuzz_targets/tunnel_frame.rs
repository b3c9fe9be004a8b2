//! Frames of the tunnel, as a hostile peer may write them: read in chunks by the engine and whole by a
//! second reader, then given to a side of each kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::tunnel_frame(data));
