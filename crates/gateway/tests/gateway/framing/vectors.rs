//! The requests of llhttp's own tests, in `../shared/vectors` beside the project.
//!
//! Each is sent as it is, and again with published paths, a host and a token put in. As it is none passes: no
//! path is ours. Adapted, one that llhttp takes passes as the requests that it is or is refused, and one that
//! llhttp refuses passes nothing, except as said in [`READ_OTHERWISE`].

use std::path::Path;

use serde::Deserialize;

use super::Tally;
use super::exchange::Scene;

#[derive(Deserialize)]
struct Vector {
    id: String,
    request: String,
    expect: String,
}

/// Cases that llhttp refuses and of which we pass requests: how many, and why that is one reading.
const READ_OTHERWISE: &[(&str, usize, &str)] = &[
    ("connection: No restart when keep-alive is off (1.0)", 1, CLOSED),
    ("connection: CRLF between requests, explicit `close`", 1, CLOSED),
    ("connection: CRLF between requests, explicit `close` followed by tab", 1, CLOSED),
    ("transfer-encoding: No extension after semicolon", 1, "an extension without a name is none"),
    ("transfer-encoding: Space after chunk header", 1, "space behind a size is not a part of it"),
];
const CLOSED: &str = "the first request closes the connection, and what follows is not read";

/// Fewer that pass would mean that the adaption does not work.
const PASS_AT_LEAST: usize = 40;

pub(super) async fn run() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/http/llhttp-requests.json");
    let Ok(text) = std::fs::read(&path) else {
        println!("skipped: there is no ../shared/vectors/http beside the project");
        return;
    };
    let vectors: Vec<Vector> = serde_json::from_slice(&text).unwrap();
    for chunked in [false, true] {
        let scene = Scene::new(chunked).await;
        as_they_are(&scene, &vectors).await;
        adapted(&scene, &vectors, chunked).await;
        scene.stop().await;
    }
}

async fn as_they_are(scene: &Scene, vectors: &[Vector]) {
    let texts = vectors.iter().map(|vector| vector.request.replace('{', "[")).collect();
    let outcomes = scene.run(texts).await;
    let mut tally = Tally::default();
    for (vector, outcome) in vectors.iter().zip(&outcomes) {
        assert!(outcome.own.is_empty(), "{}: {outcome:?}", vector.id);
        assert!(outcome.indiscreet.is_empty(), "{}: {outcome:?}", vector.id);
        assert_ne!(outcome.codes.first().map(String::as_str), Some("200"), "{}: {outcome:?}", vector.id);
        tally.add(0);
    }
    assert_eq!(scene.strays(), Vec::<String>::new());
    tally.print("llhttp's requests as they are");
}

async fn adapted(scene: &Scene, vectors: &[Vector], chunked: bool) {
    let adapted: Vec<_> = vectors.iter().map(|vector| adapt(&vector.request)).collect();
    let outcomes = scene.run(adapted.iter().map(|(text, _)| text.clone()).collect()).await;
    let mut tally = Tally::default();
    let (mut wrong, mut all) = (Vec::new(), 0);
    for ((vector, (_, lines)), outcome) in vectors.iter().zip(&adapted).zip(&outcomes) {
        let passed = outcome.own.len();
        all += passed;
        tally.add(passed);
        let most = match READ_OTHERWISE.iter().find(|(id, ..)| *id == vector.id) {
            Some((_, most, _)) => *most,
            None if vector.expect == "ok" => *lines,
            None => 0,
        };
        if passed > most {
            wrong.push(format!("{}: {passed} passed, {most} may: {outcome:?}", vector.id));
        }
        wrong.extend(outcome.indiscreet.iter().map(|text| format!("{}: {text}", vector.id)));
    }
    wrong.extend(scene.strays());
    tally.print(if chunked {
        "llhttp's requests adapted, chunked bodies taken"
    } else {
        "llhttp's requests adapted"
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(all >= PASS_AT_LEAST, "{all} requests passed");
}

/// Puts a published path, and a host and a token where they are missing, into everything that looks like a
/// request; returns how many do.
fn adapt(request: &str) -> (String, usize) {
    let mut lines = 0;
    let with_host = request.to_ascii_lowercase().contains("\nhost:");
    let text: Vec<_> = request
        .split('\n')
        .map(|line| {
            let Some(adapted) = adapt_line(line) else { return line.replace('{', "[") };
            lines += 1;
            let host = if with_host { "" } else { "Host: gw.example\r\n" };
            let end = if line.ends_with('\r') { "\r\n" } else { "\n" };
            format!("{adapted}{end}{host}Authorization: Bearer {{token}}\r")
        })
        .collect();
    (text.join("\n"), lines)
}

fn adapt_line(line: &str) -> Option<String> {
    let mut words = line.trim_end_matches('\r').split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let version = words.collect::<Vec<_>>().join(" ");
    let is_method =
        !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    if !is_method || !version.contains('/') || target.is_empty() {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let odd: String =
        path.chars().chain(['&']).chain(query.chars()).filter(|c| !c.is_ascii_alphanumeric()).collect();
    // Bodies go to the endpoint that takes some; what is odd about the target stays, in the query.
    let (method, place) = match method {
        "PUT" | "POST" | "PATCH" => ("CCM_POST", "{M}"),
        "GET" | "HEAD" | "OPTIONS" | "REPORT" | "SEARCH" => ("GET", "{P}"),
        other => (other, "{P}"),
    };
    Some(format!("{method} {place}{} {version}", odd.replace(['/', '{'], "")))
}
