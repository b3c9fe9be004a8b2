//! The seeds of the fuzz targets, each also cut at every length, through what the target calls.

use std::path::Path;

use proto::entra::TenantSet;
use proto::jose::JwkSet;
use proto::message::{Header, RequestMessage};
use proto::pki::{Crl, TrustStore, Usage};
use proto::time::Timestamp;
use proto::token::KeySet;

const CONTENT_TYPE: &str = "multipart/mixed; boundary=\"aAbBcCdDv1234567890VxXyYzZ\"";

/// Runs every seed of a target, whole and cut; answers how many cases that were.
fn replay(target: &str, run: impl Fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut cases = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let seed = std::fs::read(entry.expect("a seed").path()).expect("a seed");
        // Long seeds are cut at a few hundred places: enough to pass every boundary in them.
        let step = (seed.len() / 400).max(1);
        for end in (0..seed.len()).step_by(step).chain([seed.len()]) {
            run(&seed[..end]);
            cases += 1;
        }
    }
    assert!(cases > 20, "{target}: the corpus is there");
    println!("{target}: {cases} cases");
    cases
}

fn text(run: impl Fn(&str)) -> impl Fn(&[u8]) {
    move |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            run(text);
        }
    }
}

#[test]
fn envelope() {
    replay("envelope", |bytes| {
        if let Ok(message) = RequestMessage::parse(CONTENT_TYPE, bytes) {
            let _ = message.inflate(proto::limits::MESSAGE_BYTES);
        }
    });
}

#[test]
fn header() {
    replay(
        "header",
        text(|header| {
            let _ = Header::parse(header);
        }),
    );
}

#[test]
fn xml() {
    replay(
        "xml",
        text(|xml| {
            let _ = proto::text::xml::check_xml(xml);
        }),
    );
}

#[test]
fn path() {
    replay(
        "path",
        text(|target| {
            let _ = proto::path::parse_external(target);
        }),
    );
}

#[test]
fn token() {
    replay("token", text(|token| assert!(KeySet::default().verify(token).is_err())));
}

#[test]
fn crl() {
    let now = Timestamp::from_seconds(1_800_000_000);
    replay("crl", |bytes| {
        if let Ok(crl) = Crl::parse(bytes) {
            let _ = crl.verify(bytes, None, now);
        }
        let _ = Crl::distribution_points(bytes);
        assert!(TrustStore::default().judge(&[bytes.to_vec()], Usage::Client, now).is_err());
    });
}

#[test]
fn jose() {
    replay(
        "jose",
        text(|text| {
            let _ = TenantSet::looks_like(text);
            assert!(TenantSet::default().verify(text).is_err());
            let _ = JwkSet::parse(text.as_bytes());
        }),
    );
}
