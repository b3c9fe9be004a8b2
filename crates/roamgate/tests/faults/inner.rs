//! The server behind a role restarts, is slow, says nothing or garbage, and breaks off.

use std::time::{Duration, Instant};

use crate::fault::deployment::Options;
use crate::fault::device::{Ask, Note};
use crate::fault::inner::Manner;
use crate::fault::scene::{Expect, Scene};

/// A small GET, a small message, one that is never sent twice.
const EACH: &[(usize, usize)] = &[(0, 0), (300, 0), (100_000, 0)];
const MALFORMED: &[&str] = &["502 RG-2103"];
/// An answer that breaks off before any of it was passed on is a malformed one; later there is nothing to say.
const CUT: &[&str] = &["answer cut off", "connection closed", "502 RG-2103"];
const UNREACHABLE: &[&str] = &["502 RG-2101"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_server_inside_is_its_own_devices_trouble_alone() {
    let options = Options {
        gateway: "answer_timeout = \"4s\"".to_owned(),
        connector: "request_timeout = \"2s\"".to_owned(),
        ..Options::default()
    };
    let mut scene = Scene::start(options).await;

    // A message that is not held may get its answer from whoever loses patience first.
    let patience = &["504 RG-1104"][..];
    for (fault, manner, asks, must, allowed) in [
        ("Never answers (request_timeout 2 s)", Manner::Never, EACH, &["504 RG-2102"][..], patience),
        (
            "Reads the head and no more (2 s)",
            Manner::ReadsNothing,
            &[(100_000, 0), (3_000_000, 0)],
            &[],
            &["504 RG-2102", "504 RG-1104"],
        ),
        ("Slow: answers after 1 s", Manner::Slow(Duration::from_secs(1)), EACH, &[], &[]),
        ("Takes each request and closes without a byte", Manner::TakeAndClose, EACH, UNREACHABLE, &[]),
        ("Garbage: not HTTP", Manner::NotHttp, EACH, MALFORMED, &[]),
        ("Garbage: half a head, then the end", Manner::HalfHead, EACH, MALFORMED, &[]),
        ("Garbage: a head without end", Manner::EndlessHead, EACH, MALFORMED, &[]),
        ("Garbage: fewer bytes than stated", Manner::TooShort, EACH, &[], CUT),
        ("Garbage: more bytes than stated", Manner::TooLong, EACH, &[], &[]),
        ("Garbage: status 101", Manner::Switches, EACH, MALFORMED, &[]),
        (
            "Garbage: a body without end or length",
            Manner::Endless,
            EACH,
            &["200 without end, until the device closes"],
            &[],
        ),
        ("Reply cut in its middle", Manner::CutReply, EACH, &[], CUT),
    ] {
        let running = scene.begin(fault).await;
        scene.lab.other.behave(manner);
        let mut victims = each_on_its_own(&scene, asks).await;
        if manner == Manner::TooLong {
            // What was too much of one answer must not be the beginning of the next.
            victims.extend(scene.ask_other(&[EACH, EACH].concat()).await);
        }
        let is_bad = !(must.is_empty() && allowed.is_empty());
        assert!(victims.iter().all(|note| note.is_good() != is_bad), "{fault}: {victims:?}");
        scene.lab.other.behave(Manner::Good);
        let expect = Expect { allowed, must, victims: Some(victims), ..Expect::default() };
        scene.end(running, Instant::now(), expect).await;
    }

    kept_connections(&mut scene).await;

    let fault = scene.begin("Gone for a while").await;
    scene.lab.other.stop();
    let mut victims = scene.ask_other(EACH).await;
    scene.lab.other.listen().await;
    let healed = Instant::now();
    let back = scene.ask_other(EACH).await;
    assert!(back.iter().all(Note::is_good), "{back:?}");
    victims.extend(back);
    scene.end(fault, healed, Expect { must: UNREACHABLE, victims: Some(victims), ..Expect::default() }).await;

    let fault = scene.begin("Restarted under load: its listener and connections close and come back").await;
    for _ in 0..3 {
        scene.lab.inner.stop();
        scene.lab.inner.listen().await;
        fault.traffic.recovered(Instant::now()).await;
    }
    scene
        .end(
            fault,
            Instant::now(),
            Expect { allowed: &["502 RG-2101", "502 RG-2103", "answer cut off"], ..Expect::default() },
        )
        .await;

    scene.account("The server inside");
}

/// What becomes of requests that go out on a connection which the connection point has kept.
async fn kept_connections(scene: &mut Scene) {
    let fault = scene.begin("Kept connections are closed at the next request").await;
    let mut connection = None;
    let first = scene.ask_other_on(&mut connection, &[(0, 0), (300, 0)]).await;
    assert!(first.iter().all(Note::is_good), "{first:?}");
    scene.lab.other.behave(Manner::Stale);
    let victims = scene.ask_other_on(&mut connection, &[EACH, EACH, EACH].concat()).await;
    scene.lab.other.behave(Manner::Good);
    drop(connection);
    assert!(victims.iter().all(Note::is_good), "{victims:?}");
    scene.end(fault, Instant::now(), Expect { victims: Some(victims), ..Expect::default() }).await;

    for (body, times) in [(300, 2), (100_000, 1)] {
        let name = format!("Takes a message of {body} bytes on a kept connection and closes without a byte");
        let fault = scene.begin(&name).await;
        let mut connection = None;
        let first = scene.ask_other_on(&mut connection, &[(0, 0)]).await;
        assert!(first.iter().all(Note::is_good), "{first:?}");
        scene.lab.other.behave(Manner::TakeAndClose);
        let victims = scene.ask_other_on(&mut connection, &[(body, 0)]).await;
        scene.lab.other.behave(Manner::Good);
        drop(connection);
        let taken = scene.lab.other.came(victims[0].ask.number).whole;
        assert_eq!(taken, times, "once more on a fresh connection, where that may be: {victims:?}");
        let expect = Expect { must: UNREACHABLE, victims: Some(victims), ..Expect::default() };
        scene.end(fault, Instant::now(), expect).await;
    }

    let fault = scene.begin("Restarted between two requests, its kept connections closed").await;
    let mut connection = None;
    let first = scene.ask_other_on(&mut connection, EACH).await;
    assert!(first.iter().all(Note::is_good), "{first:?}");
    scene.lab.other.stop();
    scene.lab.other.listen().await;
    let victims = scene.ask_other_on(&mut connection, EACH).await;
    drop(connection);
    assert!(victims.iter().all(Note::is_good), "{victims:?}");
    scene.end(fault, Instant::now(), Expect { victims: Some(victims), ..Expect::default() }).await;
}

/// Each request on a connection of its own, all at once.
async fn each_on_its_own(scene: &Scene, asks: &[(usize, usize)]) -> Vec<Note> {
    let asks: Vec<_> = asks
        .iter()
        .map(|(body, answer)| {
            let (victim, ask) = (scene.victim(), Ask::new(*body, *answer));
            tokio::spawn(async move { victim.ask(&mut None, ask).await })
        })
        .collect();
    let mut notes = Vec::new();
    for ask in asks {
        notes.push(ask.await.expect("a device asks"));
    }
    notes
}
