//! Frames of the tunnel, as a hostile peer may write them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = tunnel::frame::decode_all(data);
    let now = std::time::Instant::now();
    let mut gateway = tunnel::GatewaySide::new(tunnel::Config::default(), now);
    let _ = gateway.receive_bytes(now, data);
    while gateway.next_event().is_some() {}
});
