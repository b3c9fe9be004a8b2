//! One reading of a request (R46): whatever a device writes, the connection point sees at most the one request
//! that our reading of it is, written anew, and nothing that was hidden behind or inside it.
//!
//! Each case is written to a connection of its own by an authenticated device, with a good request behind it
//! that asks for the connection to be closed. What the case and the one behind it are answered is compared with
//! the table ([`attacks`]), or held against what another parser says ([`vectors`]).

mod attacks;
mod exchange;
mod vectors;

use std::collections::BTreeMap;

use crate::framing::attacks::Case;
use crate::framing::exchange::Scene;

/// Counts by outcome, for the one who runs the tests.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, usize>);

impl Tally {
    /// `passed`: requests of the case's own that went through.
    fn add(&mut self, passed: usize) {
        let name = match passed {
            0 => "refused",
            1 => "passed as one",
            _ => "passed as the several that they are",
        };
        *self.0.entry(name).or_default() += 1;
    }

    fn print(&self, what: &str) {
        let total: usize = self.0.values().sum();
        println!("{what}: {total} cases, {:?}", self.0);
    }
}

/// Runs every case and compares its answers with the table; all differences are shown at once.
async fn check(scene: &Scene, what: &str, cases: Vec<Case>, chunked: bool) {
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    let outcomes = scene.run(cases.iter().map(|case| case.text.clone()).collect()).await;
    for (case, outcome) in cases.iter().zip(outcomes) {
        let expected = if chunked { case.with_chunks } else { case.without_chunks };
        let got = outcome.codes.join(" ");
        if got != expected {
            wrong.push(format!("{}: {got:?} in place of {expected:?}", case.name));
        }
        // A case whose own answer is 200 is one request that passed, and nothing else of it may have.
        let own = usize::from(expected.split(' ').find(|code| *code != "100") == Some("200"));
        if outcome.own.len() != own {
            wrong.push(format!(
                "{}: {} requests of its own passed: {:?}",
                case.name,
                outcome.own.len(),
                outcome.own
            ));
        }
        for seen in &outcome.own {
            if let Err(difference) = case.compare(seen) {
                wrong.push(format!("{}: {difference}", case.name));
            }
        }
        let behind = usize::from(expected.ends_with(" 200") && expected != "100 200");
        if outcome.behind != behind {
            wrong.push(format!("{}: {} requests behind it passed", case.name, outcome.behind));
        }
        wrong.extend(outcome.indiscreet.iter().map(|text| format!("{}: {text}", case.name)));
        tally.add(outcome.own.len());
    }
    wrong.extend(scene.strays().into_iter().map(|target| format!("nobody's request passed: {target}")));
    tally.print(what);
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn attacks_on_the_framing_get_nothing_through_but_the_request_that_they_are() {
    let scene = Scene::new(false).await;
    check(&scene, "framing attacks", attacks::all(), false).await;
    scene.stop().await;
}

#[tokio::test]
async fn the_same_where_chunked_bodies_are_taken() {
    let scene = Scene::new(true).await;
    check(&scene, "framing attacks, chunked bodies taken", attacks::all(), true).await;
    scene.stop().await;
}

#[tokio::test]
async fn two_good_requests_in_one_write_both_work_in_order() {
    let scene = Scene::new(false).await;
    for count in [2, 20] {
        let text = (0..count).map(|_| attacks::GET.to_owned()).collect::<String>();
        let outcome = scene.run(vec![text]).await.remove(0);
        assert_eq!(outcome.codes, vec!["200"; count + 1]);
        assert_eq!((outcome.own.len(), outcome.behind), (count, 1));
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_is_the_same_request() {
    let scene = Scene::new(false).await;
    let text = attacks::post("Content-Length: 5\r\n", "hello");
    let outcome = scene.run_slowly(&text).await;
    assert_eq!(outcome.codes, ["200", "200"]);
    assert_eq!((outcome.own.len(), &outcome.own[0].body[..], outcome.behind), (1, &b"hello"[..], 1));
    scene.stop().await;
}

#[tokio::test]
async fn the_requests_of_llhttps_own_tests_pass_as_one_or_not_at_all() {
    vectors::run().await;
}
