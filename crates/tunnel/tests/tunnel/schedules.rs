//! Random schedules: whatever the order of calls, writes, reads, chunk sizes, resets, drains, waits, cuts and
//! silences, what was sent arrives whole, in order and once, or both ends know that it does not.
//!
//! `TUNNEL_SEED` runs from one base seed (printed by every run), `TUNNEL_SCHEDULES` as many.

use std::hash::{BuildHasher, RandomState};

use crate::model::choices::Choices;
use crate::model::hostile_peer;
use crate::model::simulation::{self, Tally};

/// Says which schedule it was, should it fail.
struct Named(&'static str, u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed; again: TUNNEL_SEED={} TUNNEL_SCHEDULES=1", self.0, self.1);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Runs as many schedules as are asked for, each from a seed of its own.
fn for_each_seed(name: &'static str, otherwise: u64, mut run: impl FnMut(Choices<'static>)) -> u64 {
    let base = number("TUNNEL_SEED").unwrap_or_else(|| RandomState::new().hash_one(name));
    let schedules = number("TUNNEL_SCHEDULES").unwrap_or(otherwise);
    println!("{name}: {schedules} schedules from TUNNEL_SEED={base}");
    for at in 0..schedules {
        let seed = base.wrapping_add(at);
        let named = Named(name, seed);
        // Neighbouring seeds share nothing after one turn of the generator's mixer.
        run(Choices::Seed(seed.wrapping_mul(0xd134_2543_de82_ef95)));
        drop(named);
    }
    schedules
}

#[test]
fn everything_sent_arrives_whole_and_in_order_or_both_ends_know() {
    let mut all = Tally::default();
    let schedules = for_each_seed("schedules", 1000, |mut choices| {
        let steps = 20 + choices.below(600);
        all += simulation::run(&mut choices, steps);
    });
    println!("{all:?}");
    if schedules >= 500 {
        for seen in [all.whole, all.given_up, all.control_messages, all.full] {
            assert!(seen > 100, "{all:?}");
        }
        assert!(all.cut > 10 && all.silent > 10 && all.drained > 100, "{all:?}");
    }
}

#[test]
fn a_gateway_keeps_to_the_protocol_whatever_its_peer_does() {
    for_each_seed("against a gateway", 3000, |mut choices| {
        let steps = 20 + choices.below(300);
        hostile_peer::against_gateway(&mut choices, steps);
    });
}

#[test]
fn a_connector_keeps_to_the_protocol_whatever_its_peer_does() {
    for_each_seed("against a connector", 3000, |mut choices| {
        let steps = 20 + choices.below(300);
        hostile_peer::against_connector(&mut choices, steps);
    });
}
