//! The seeds of the fuzz target, each also cut at every length and with every bit of it flipped.

use std::path::Path;
use std::time::Instant;

use tunnel::{Config, ConnectorSide, GatewaySide};

#[test]
fn no_seed_of_the_fuzzer_panics_either_side() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/tunnel_frame");
    let now = Instant::now();
    let run = |bytes: &[u8]| {
        let _ = tunnel::frame::decode_all(bytes);
        let mut gateway = GatewaySide::new(Config::default(), now);
        let mut connector = ConnectorSide::new(Config::default(), now);
        let _ = gateway.receive_bytes(now, bytes);
        let _ = connector.receive_bytes(now, bytes);
        while gateway.next_event().is_some() {}
        while connector.next_event().is_some() {}
    };
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let seed = std::fs::read(entry.expect("a seed").path()).expect("a seed");
        for end in 0..=seed.len() {
            run(&seed[..end]);
            cases += 1;
        }
        for at in 0..seed.len() {
            for bit in 0..8 {
                let mut flipped = seed.clone();
                flipped[at] ^= 1 << bit;
                run(&flipped);
                cases += 1;
            }
        }
    }
    assert!(cases > 1000);
    println!("tunnel_frame: {cases} cases");
}
