//! The seeds of the fuzz targets, each as it is, cut short, and with bits of it flipped.

use std::path::Path;

use crate::model::choices::Choices;
use crate::model::{hostile_peer, page, simulation};

const STEPS: usize = 100_000;

/// Runs `target` on every seed of that name. A seed of at most `whole` bytes also cut at every length and
/// with every bit flipped, a longer one at some.
fn run_seeds(name: &str, whole: usize, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let seed = std::fs::read(entry.expect("a seed").path()).expect("a seed");
        let stride = seed.len().div_ceil(whole).max(1);
        for end in (0..=seed.len()).rev().step_by(stride) {
            target(&seed[..end]);
            cases += 1;
        }
        for bit in (0..seed.len() * 8).step_by(if stride == 1 { 1 } else { 8 * stride + 1 }) {
            let mut flipped = seed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            target(&flipped);
            cases += 1;
        }
    }
    assert!(cases > 40, "{name}: {cases}");
    println!("{name}: {cases} cases");
}

#[test]
fn every_frame_in_the_corpus_reads_the_same_both_ways() {
    run_seeds("tunnel_frame", 400, page::whatever_the_bytes);
}

#[test]
fn a_gateway_survives_the_corpus() {
    run_seeds("tunnel_gateway_side", 8, |seed| {
        hostile_peer::against_gateway(&mut Choices::Bytes(seed), STEPS);
    });
}

#[test]
fn a_connector_survives_the_corpus() {
    run_seeds("tunnel_connector_side", 8, |seed| {
        hostile_peer::against_connector(&mut Choices::Bytes(seed), STEPS);
    });
}

#[test]
fn a_pair_comes_through_the_corpus() {
    run_seeds("tunnel_pair", 8, |seed| {
        simulation::run(&mut Choices::Bytes(seed), STEPS);
    });
}
