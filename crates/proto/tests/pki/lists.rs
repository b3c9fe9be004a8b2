//! Revocation lists of the lab PKI: those that count, and the many that do not (R6).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::pki::{Crl, CrlError, CrlScope, IssuerId, Revocations, RevocationsDelta, Serial};
use proto::time::Timestamp;

use crate::lab::{Authority, CA, DAY, Lab, ListWish, NOW, Wish, lab};

const ISSUER: &str = "CN=Lab Issuing,O=Lab";

struct Scene {
    lab: &'static Lab,
    root: Authority,
    issuing: Authority,
}

impl Scene {
    fn new() -> Option<Self> {
        let lab = lab()?;
        let root = lab.root("/O=Lab/CN=Lab Root", "root");
        let issuing = lab.authority(&root, "/O=Lab/CN=Lab Issuing", "issuing", "21");
        Some(Self { lab, root, issuing })
    }

    fn verify(&self, wish: &ListWish<'_>) -> Result<Revocations, CrlError> {
        self.verify_after(wish, None)
    }

    fn verify_after(&self, wish: &ListWish<'_>, last: Option<&Revocations>) -> Result<Revocations, CrlError> {
        Crl::parse(&self.lab.list(&self.issuing, wish))?.verify(&self.issuing.der, last, NOW)
    }

    fn with_extensions(&self, extensions: &str) -> Result<Revocations, CrlError> {
        self.verify(&ListWish { extensions, ..ListWish::default() })
    }
}

fn date(text: &str) -> Timestamp {
    Timestamp::parse_iso8601(text).expect("a date")
}

fn serial(text: &str) -> Serial {
    text.parse().expect("hex")
}

#[test]
fn a_good_list_says_who_was_revoked_and_when() {
    let Some(scene) = Scene::new() else { return };
    let wish = ListWish {
        number: Some("01F4"),
        revoked: &[("2B", ""), ("1001", "keyCompromise"), ("0FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "")],
        ..ListWish::default()
    };
    let read = scene.verify(&wish).expect("a good list");
    assert_eq!(IssuerId::of(&scene.issuing.der), Some(read.issuer));
    assert_eq!((read.issuer_name.as_str(), read.number.as_str()), (ISSUER, "01F4"));
    assert_eq!(
        (read.this_update, read.next_update),
        (date("2026-05-30T00:00:00Z"), date("2026-06-06T00:00:00Z"))
    );
    assert_eq!(read.revoked.len(), 3);
    assert_eq!(read.revoked.get(serial("1001")), Some(date("2026-05-20T12:00:00Z")));
    assert_eq!(read.revoked.get(serial("1002")), None);

    let der = scene.lab.list(&scene.issuing, &wish);
    let mut pem = "-----BEGIN X509 CRL-----\n".to_owned();
    for line in STANDARD.encode(&der).as_bytes().chunks(64) {
        writeln!(pem, "{}", String::from_utf8_lossy(line)).expect("a string");
    }
    pem.push_str("-----END X509 CRL-----\n");
    let crl = Crl::parse(pem.as_bytes()).expect("PEM is read too");
    assert_eq!(crl.verify(&scene.issuing.der, None, NOW).map(|read| read.revoked), Ok(read.revoked));
    assert!(crl.is_named_after(&scene.issuing.der) && !crl.is_named_after(&scene.root.der));
    assert_eq!((crl.entries(), crl.issuer_name().as_str()), (3, ISSUER));
    let twice = pem.repeat(2);
    assert!(matches!(Crl::parse(twice.as_bytes()), Err(CrlError::Malformed(_))), "two in one file");
}

#[test]
fn lists_of_old_software_count_too() {
    let Some(scene) = Scene::new() else { return };
    let v1 = ListWish { number: None, extensions: "", revoked: &[("1001", "")], ..ListWish::default() };
    let read = scene.verify(&v1).expect("version 1, without number");
    assert_eq!((read.number.as_str(), read.number_text(), read.revoked.len()), ("", "without number", 1));
    let later = ListWish { from: "20260531000000Z", number: None, extensions: "", ..ListWish::default() };
    assert!(scene.verify_after(&later, Some(&read)).is_ok(), "the later date counts");
    let earlier = ListWish { from: "20260529000000Z", number: None, extensions: "", ..ListWish::default() };
    assert!(matches!(scene.verify_after(&earlier, Some(&read)), Err(CrlError::RolledBack { .. })));
    let other = ListWish { number: None, extensions: "", ..ListWish::default() };
    assert!(matches!(scene.verify_after(&other, Some(&read)), Err(CrlError::SameNumber { .. })));
    let empty = scene.verify(&ListWish::default()).expect("nobody is revoked");
    assert!(empty.revoked.is_empty());
}

#[test]
fn dates_must_hold_now() {
    let Some(scene) = Scene::new() else { return };
    let expired = ListWish { until: "20260531235959Z", ..ListWish::default() };
    let since = date("2026-05-31T23:59:59Z");
    assert_eq!(scene.verify(&expired), Err(CrlError::Expired { issuer: ISSUER.into(), since }));
    let future = ListWish { from: "20260601000501Z", ..ListWish::default() };
    let from = date("2026-06-01T00:05:01Z");
    assert_eq!(scene.verify(&future), Err(CrlError::NotYetValid { issuer: ISSUER.into(), from }));
    let ahead = ListWish { from: "20260601000500Z", ..ListWish::default() };
    assert!(scene.verify(&ahead).is_ok(), "the authority's clock may be five minutes ahead");
}

#[test]
fn only_its_issuer_can_have_signed_it() {
    let Some(scene) = Scene::new() else { return };
    let lab = scene.lab;
    let namesake = lab.authority(&scene.root, "/O=Lab/CN=Lab Issuing", "other", "23");
    let by_namesake = Crl::parse(&lab.list(&namesake, &ListWish::default())).expect("a list");
    assert_eq!(
        by_namesake.verify(&scene.issuing.der, None, NOW),
        Err(CrlError::Signature { authority: ISSUER.into() }),
        "wrong key"
    );
    let by_root = Crl::parse(&lab.list(&scene.root, &ListWish::default())).expect("a list");
    assert_eq!(
        by_root.verify(&scene.issuing.der, None, NOW),
        Err(CrlError::Foreign { issuer: "CN=Lab Root,O=Lab".into(), authority: ISSUER.into() }),
        "wrong issuer"
    );
    assert_eq!(by_root.verify(b"no certificate", None, NOW), Err(CrlError::Authority));

    let weak = scene.verify(&ListWish { digest: "sha1", ..ListWish::default() });
    assert_eq!(weak, Err(CrlError::Weak { issuer: ISSUER.into(), detail: "signed with SHA-1".into() }));

    let extensions = CA.replace("keyCertSign,cRLSign", "keyCertSign");
    let wish = Wish {
        subject: "/O=Lab/CN=Lab Issuing",
        key: "issuing",
        serial: "22",
        extensions: &extensions,
        ..Wish::default()
    };
    let no_signer = lab.authority_as(&scene.root, &wish);
    let list = Crl::parse(&lab.list(&scene.issuing, &ListWish::default())).expect("a list");
    assert_eq!(
        list.verify(&no_signer.der, None, NOW),
        Err(CrlError::NotASigner { authority: ISSUER.into() })
    );
}

#[test]
fn lists_that_are_not_whole_or_not_understood_are_refused() {
    let Some(scene) = Scene::new() else { return };
    let scope = |line: &str| {
        scene.with_extensions(&format!("issuingDistributionPoint=critical,@idp\n[ idp ]\n{line}\n"))
    };
    let limited = [
        ("onlyuser=TRUE", CrlScope::UserCertificates),
        ("onlyCA=TRUE", CrlScope::AuthorityCertificates),
        ("onlyAA=TRUE", CrlScope::AttributeCertificates),
        ("onlysomereasons=keyCompromise,CACompromise", CrlScope::SomeReasons),
        ("fullname=dirName:dir\n[ dir ]\nCN=point", CrlScope::UnnamedPoint),
        ("relativename=dir\n[ dir ]\nCN=point", CrlScope::UnnamedPoint),
    ];
    for (line, limit) in limited {
        assert_eq!(scope(line), Err(CrlError::Scope(limit)), "{line}");
    }
    assert_eq!(scope("indirectCRL=TRUE"), Err(CrlError::Indirect));
    let points = scope("fullname=URI:http://crl.lab/a.crl,URI:ldap:///CN=a").expect("a whole list").points;
    assert_eq!(points, ["http://crl.lab/a.crl", "ldap:///CN=a"]);

    assert_eq!(scene.with_extensions("2.5.29.27=critical,ASN1:INTEGER:9\n"), Err(CrlError::Delta));
    assert_eq!(scene.with_extensions("2.5.29.27=ASN1:INTEGER:9\n"), Err(CrlError::Delta), "said softly");
    assert_eq!(
        scene.with_extensions("1.2.3.4.5=critical,ASN1:NULL\n"),
        Err(CrlError::CriticalExtension { oid: "1.2.3.4.5".into() })
    );
    assert!(scene.with_extensions("1.2.3.4.5=ASN1:NULL\n").is_ok(), "what is not critical may be unknown");
    assert!(matches!(
        scene.with_extensions("issuingDistributionPoint=critical,ASN1:NULL\n"),
        Err(CrlError::Malformed(_))
    ));
}

#[test]
fn a_list_never_goes_back() {
    let Some(scene) = Scene::new() else { return };
    let at = |number, from| ListWish { number: Some(number), from, ..ListWish::default() };
    let last = scene.verify(&at("10", "20260530000000Z")).expect("a good list");
    let after = |wish: &ListWish<'_>| scene.verify_after(wish, Some(&last));

    let rolled_back = |offered: &str| {
        let have = "10 of 2026-05-30T00:00:00Z".to_owned();
        Err(CrlError::RolledBack { issuer: ISSUER.into(), have, offered: offered.to_owned() })
    };
    assert_eq!(
        after(&at("0F", "20260531000000Z")),
        rolled_back("0F of 2026-05-31T00:00:00Z"),
        "lower number"
    );
    assert_eq!(after(&at("11", "20260529000000Z")), rolled_back("11 of 2026-05-29T00:00:00Z"), "older");
    let unnumbered =
        ListWish { number: None, extensions: "", from: "20260531000000Z", ..ListWish::default() };
    assert_eq!(after(&unnumbered), rolled_back("without number of 2026-05-31T00:00:00Z"));
    let other = ListWish { revoked: &[("2B", "")], ..at("10", "20260530000000Z") };
    assert_eq!(after(&other), Err(CrlError::SameNumber { issuer: ISSUER.into(), number: "10".into() }));
    assert_eq!(after(&at("10", "20260530000000Z")), Ok(last.clone()), "the same one again");
    assert!(after(&at("0100", "20260530000000Z")).is_ok(), "256 follows 16");
    assert!(after(&at("11", "20260530000000Z")).is_ok());

    let mut foreign = last.clone();
    foreign.issuer = IssuerId::new(b"another", b"issuer");
    foreign.number = "FFFF".into();
    assert!(scene.verify_after(&at("10", "20260530000000Z"), Some(&foreign)).is_ok(), "another issuer's");
}

#[test]
fn what_is_no_list_is_refused_and_told_what_it_looks_like() {
    let Some(scene) = Scene::new() else { return };
    let good = scene.lab.list(&scene.issuing, &ListWish::default());
    let refused = |bytes: &[u8]| match Crl::parse(bytes) {
        Err(CrlError::Malformed(what)) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b""), "it is empty");
    assert_eq!(
        refused(b"\r\n<!DOCTYPE html><html><body>Not found</body></html>"),
        "it is a web page or other markup"
    );
    assert_eq!(refused(b"{\"error\": 1}"), "it is JSON");
    assert_eq!(refused(&[0xA5; 300]), "it is something else altogether");
    assert_eq!(refused(&good[..good.len() - 1]), "its end is missing");
    assert_eq!(refused(&[&good[..], b"\n"].concat()), "something follows after its end");
    assert_eq!(refused(&scene.issuing.der), "it is a certificate");
    assert_eq!(refused(&[0x30, 0]), "its form is not that of a list");
    assert_eq!(refused(b"-----BEGIN X509 CRL-----\n!!!\n-----END X509 CRL-----\n"), "it is broken PEM");
    assert_eq!(
        refused(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
        "there is none in this PEM file"
    );
    let huge = vec![0x30; proto::limits::CRL_BYTES + 1];
    assert_eq!(Crl::parse(&huge), Err(CrlError::TooLarge { bytes: huge.len() }));
}

#[test]
fn no_cut_or_changed_list_counts() {
    let Some(scene) = Scene::new() else { return };
    let wish = ListWish { revoked: &[("1001", "keyCompromise"), ("2B", "")], ..ListWish::default() };
    let good = scene.lab.list(&scene.issuing, &wish);
    let counts =
        |bytes: &[u8]| Crl::parse(bytes).and_then(|list| list.verify(&scene.issuing.der, None, NOW)).is_ok();
    assert!(counts(&good));
    for end in 0..good.len() {
        assert!(!counts(&good[..end]), "cut at {end}");
    }
    let mut changed = good.clone();
    for (place, byte) in good.iter().enumerate() {
        for bit in 0..8 {
            changed[place] = byte ^ (1 << bit);
            assert!(!counts(&changed), "byte {place}, bit {bit}");
        }
        changed[place] = *byte;
    }
}

#[test]
fn two_hundred_thousand_entries_are_read_published_and_amended() {
    let Some(scene) = Scene::new() else { return };
    let serials: Vec<String> = (0..200_000_u64)
        .map(|n| format!("61{:08X}{:016X}", n, n.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
        .collect();
    let rows: Vec<_> = serials.iter().map(|serial| (serial.as_str(), "")).collect();
    let list = |number, revoked| {
        let der = scene
            .lab
            .list(&scene.issuing, &ListWish { number: Some(number), revoked, ..ListWish::default() });
        let size = der.len();
        let before = std::time::Instant::now();
        let read =
            Crl::parse(&der).and_then(|crl| crl.verify(&scene.issuing.der, None, NOW)).expect("a list");
        println!("{} entries, {size} bytes, read in {:?}", read.revoked.len(), before.elapsed());
        read
    };
    let (head, tail) = rows.split_at(100);
    let mut first = list("10", tail);
    let second = list("11", &rows[..rows.len() - 7]);
    assert_eq!(second.revoked.len(), 199_993);
    assert!(
        second.revoked.get(serial(head[0].0)).is_some() && first.revoked.get(serial(head[0].0)).is_none()
    );

    let delta = RevocationsDelta::between(&first, &second);
    assert_eq!((delta.added.len(), delta.removed.len()), (100, 7));
    let text = serde_json::to_string(&delta).expect("JSON");
    assert!(text.len() < 4_000, "{} bytes", text.len());
    first.amend(serde_json::from_str(&text).expect("JSON"));
    assert_eq!(first, second);

    let text = serde_json::to_string(&second).expect("JSON");
    println!("{} bytes of JSON", text.len());
    assert!(text.len() < 200_000 * 27, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<Revocations>(&text).expect("JSON"), second);
}

#[test]
fn distribution_points_are_read_from_certificates() {
    let Some(scene) = Scene::new() else { return };
    let with = |points: &str| {
        let extensions = format!("crlDistributionPoints={points}\n");
        let der = scene.lab.issue(&scene.issuing, &Wish { extensions: &extensions, ..Wish::default() });
        Crl::distribution_points(&der)
    };
    assert_eq!(
        with(
            "URI:ldap:///CN=a?list,URI:http://crl.lab/a.crl,URI:HTTPS://crl.lab/b.crl,URI:file:///etc/passwd"
        ),
        ["http://crl.lab/a.crl", "HTTPS://crl.lab/b.crl"]
    );
    assert_eq!(with("part\n[ part ]\nfullname=URI:http://crl.lab/a.crl\nreasons=keyCompromise"), [""; 0]);
    let many: Vec<_> = (0..40).map(|n| format!("URI:http://crl.lab/{n}")).collect();
    assert_eq!(with(&many.join(",")).len(), proto::limits::DISTRIBUTION_POINTS);
    assert_eq!(Crl::distribution_points(b"no certificate"), [""; 0]);
    assert_eq!(Crl::distribution_points(&scene.root.der), [""; 0]);
    // A day is what an authority usually takes between two lists.
    assert!(scene.verify(&ListWish::default()).expect("a list").next_update > NOW.plus(DAY));
}
