//! Good and bad clients of the lab PKI, each with the cause that must be named.

use proto::pki::{CrlPolicy, Distrust, RevocationSettings, Revocations, TrustStore, Usage};
use proto::time::Timestamp;

use crate::lab::{Authority, CA, CLIENT, DAY, Lab, ListWish, NOW, Wish, kept, lab, store};

/// Root, issuing authority, and a deeper one; each with an empty list.
struct Scene {
    lab: &'static Lab,
    root: Authority,
    issuing: Authority,
    deeper: Authority,
}

const NO_CHECK: RevocationSettings =
    RevocationSettings { check: false, policy: CrlPolicy::Hard, grace_seconds: 0 };

impl Scene {
    fn new() -> Option<Self> {
        let lab = lab()?;
        let root = lab.root("/O=Lab/CN=Lab Root", "root");
        let issuing = lab.authority(&root, "/O=Lab/CN=Lab Issuing", "issuing", "21");
        let deeper = lab.authority(&issuing, "/O=Lab/CN=Lab Deeper", "deeper", "31");
        Some(Self { lab, root, issuing, deeper })
    }

    fn lists(&self) -> Vec<Revocations> {
        [&self.root, &self.issuing, &self.deeper]
            .map(|authority| kept(self.lab, authority, &ListWish::default()))
            .into()
    }

    /// Trusts the root, knows all lists.
    fn store(&self) -> TrustStore {
        store(vec![self.root.as_root()], self.lists(), RevocationSettings::default()).expect("a store")
    }

    /// Trusts the root and looks at no list.
    fn lax_store(&self) -> TrustStore {
        store(vec![self.root.as_root()], Vec::new(), NO_CHECK).expect("a store")
    }

    fn leaf(&self, wish: &Wish<'_>) -> Vec<u8> {
        self.lab.issue(&self.issuing, wish)
    }

    /// Judges a leaf of the issuing authority, which is shown too.
    fn judge(&self, wish: &Wish<'_>) -> Result<(), Distrust> {
        self.judge_shown(self.leaf(wish))
    }

    fn judge_shown(&self, leaf: Vec<u8>) -> Result<(), Distrust> {
        judge(&self.store(), &[leaf, self.issuing.der.clone()])
    }
}

fn judge(store: &TrustStore, chain: &[Vec<u8>]) -> Result<(), Distrust> {
    store.judge(chain, Usage::Client, NOW).map(|_| ())
}

fn date(text: &str) -> Timestamp {
    Timestamp::parse_iso8601(text).expect("a date")
}

#[test]
fn good_chains_are_trusted_in_whatever_order_and_company_they_come() {
    let Some(scene) = Scene::new() else { return };
    let Scene { lab, root, issuing, deeper } = &scene;
    let leaf = scene.leaf(&Wish::default());
    let low = lab.issue(deeper, &Wish { serial: "1002", ..Wish::default() });
    let stranger = lab.root("/O=Elsewhere/CN=Elsewhere", "other");

    let strict = scene.store();
    let good: [(&str, Vec<&Vec<u8>>); 5] = [
        ("one intermediate", vec![&leaf, &issuing.der]),
        ("two intermediates", vec![&low, &deeper.der, &issuing.der]),
        ("two in the wrong order", vec![&low, &issuing.der, &deeper.der]),
        ("the root as well", vec![&leaf, &issuing.der, &root.der]),
        ("strangers and twins", vec![&leaf, &stranger.der, &leaf, &issuing.der, &issuing.der, &deeper.der]),
    ];
    for (what, chain) in good {
        let chain: Vec<_> = chain.into_iter().cloned().collect();
        let trusted =
            strict.judge(&chain, Usage::Client, NOW).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(trusted.subject, "CN=device-1.lab,O=Lab", "{what}");
        assert_eq!(trusted.until, date("2026-06-06T00:00:00Z"), "{what}: the lists end first");
        assert_eq!(trusted.path.last(), Some(&root.as_root().id()), "{what}");
        assert_eq!(trusted.path.len(), if what.starts_with("two") { 3 } else { 2 }, "{what}");
    }

    let mut chain = vec![low.clone(), vec![0x30, 0]];
    chain.push(b"junk".to_vec());
    let helped = store(
        vec![root.as_root(), issuing.as_intermediate(), deeper.as_intermediate()],
        scene.lists(),
        RevocationSettings::default(),
    );
    assert_eq!(judge(&helped.expect("a store"), &chain), Ok(()), "intermediates of the list, and junk");
    assert_eq!(
        scene
            .lax_store()
            .judge(&[leaf, issuing.der.clone()], Usage::Client, NOW)
            .map(|trusted| trusted.until),
        Ok(date("2027-01-01T00:00:00Z")),
        "without lists the leaf ends first"
    );
}

#[test]
fn rsa_and_larger_curves_are_as_good() {
    let Some(lab) = lab() else { return };
    let root = lab.root("/O=Lab/CN=RSA Root", "rsa-authority");
    let issuing = lab.authority(&root, "/O=Lab/CN=P-384 Issuing", "p384", "22");
    let store = store(vec![root.as_root()], Vec::new(), NO_CHECK).expect("a store");
    for (key, digest) in [("rsa", "sha256"), ("rsa", "sha512"), ("p384", "sha384"), ("leaf", "sha256")] {
        let direct = lab.issue(&root, &Wish { key, digest, ..Wish::default() });
        assert_eq!(judge(&store, &[direct]), Ok(()), "{key} {digest} by the root");
        let below = lab.issue(&issuing, &Wish { key, digest, ..Wish::default() });
        assert_eq!(judge(&store, &[below, issuing.der.clone()]), Ok(()), "{key} {digest} below");
    }
}

#[test]
fn dates_are_named_with_the_certificate_they_are_of() {
    let Some(scene) = Scene::new() else { return };
    let subject = "CN=device-1.lab,O=Lab".to_owned();
    let expired = Wish { until: "20260531235959Z", ..Wish::default() };
    assert_eq!(
        scene.judge(&expired),
        Err(Distrust::Expired { subject: subject.clone(), since: date("2026-05-31T23:59:59Z") })
    );
    let early = Wish { from: "20260601000001Z", ..Wish::default() };
    assert_eq!(
        scene.judge(&early),
        Err(Distrust::NotYetValid { subject, from: date("2026-06-01T00:00:01Z") })
    );
    for edge in [
        Wish { until: "20260601000000Z", ..Wish::default() },
        Wish { from: "20260601000000Z", ..Wish::default() },
    ] {
        assert_eq!(scene.judge(&edge), Ok(()), "the first and the last second count");
    }
    let chain =
        [scene.leaf(&Wish { until: "20500101000000Z", ..Wish::default() }), scene.issuing.der.clone()];
    let later = scene.lax_store().judge(&chain, Usage::Client, date("2031-01-02T00:00:00Z"));
    assert_eq!(
        later.map(|_| ()),
        Err(Distrust::Expired {
            subject: "CN=Lab Issuing,O=Lab".into(),
            since: date("2031-01-01T00:00:00Z")
        })
    );
}

#[test]
fn whoever_was_revoked_is_refused_and_the_list_named() {
    let Some(scene) = Scene::new() else { return };
    let leaf = scene.leaf(&Wish::default());
    for reason in ["", "keyCompromise", "certificateHold", "superseded"] {
        let list =
            ListWish { number: Some("1F"), revoked: &[("05", ""), ("1001", reason)], ..ListWish::default() };
        let mut lists = scene.lists();
        lists.push(kept(scene.lab, &scene.issuing, &list));
        let store = store(vec![scene.root.as_root()], lists, RevocationSettings::default()).expect("a store");
        let expected = Distrust::Revoked {
            subject: "CN=device-1.lab,O=Lab".into(),
            serial: "1001".into(),
            at: date("2026-05-20T12:00:00Z"),
            issuer: "CN=Lab Issuing,O=Lab".into(),
            number: "1F".into(),
        };
        assert_eq!(judge(&store, &[leaf.clone(), scene.issuing.der.clone()]), Err(expected), "{reason:?}");
    }
}

#[test]
fn a_revoked_intermediate_takes_everything_below_with_it() {
    let Some(scene) = Scene::new() else { return };
    let revoked = ListWish { number: Some("11"), revoked: &[("21", "cACompromise")], ..ListWish::default() };
    // The issuing authority's own list is missing: that it was revoked itself is said first.
    let lists = vec![kept(scene.lab, &scene.root, &revoked)];
    let store = store(vec![scene.root.as_root()], lists, RevocationSettings::default()).expect("a store");
    let leaf = scene.leaf(&Wish::default());
    match judge(&store, &[leaf, scene.issuing.der.clone()]) {
        Err(Distrust::Revoked { subject, serial, issuer, .. }) => assert_eq!(
            (subject.as_str(), serial.as_str(), issuer.as_str()),
            ("CN=Lab Issuing,O=Lab", "21", "CN=Lab Root,O=Lab")
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_serial_of_another_issuer_is_another_certificate() {
    let Some(scene) = Scene::new() else { return };
    let leaf = scene.leaf(&Wish::default());
    // Another authority, and one of the same name with another key, revoked that serial.
    let same_name = scene.lab.authority(&scene.root, "/O=Lab/CN=Lab Issuing", "other", "23");
    let revoked = ListWish { number: Some("11"), revoked: &[("1001", "")], ..ListWish::default() };
    let mut lists = scene.lists();
    for authority in [&scene.deeper, &same_name] {
        lists.push(kept(scene.lab, authority, &revoked));
    }
    let store = store(vec![scene.root.as_root()], lists, RevocationSettings::default()).expect("a store");
    assert_eq!(judge(&store, &[leaf, scene.issuing.der.clone()]), Ok(()));
    let its_own = scene.lab.issue(&same_name, &Wish::default());
    assert!(matches!(judge(&store, &[its_own, same_name.der]), Err(Distrust::Revoked { .. })));
}

#[test]
fn missing_and_stale_lists_refuse_after_the_grace_unless_the_policy_is_soft() {
    let Some(scene) = Scene::new() else { return };
    let chain = [scene.leaf(&Wish::default()), scene.issuing.der.clone()];
    let settings = |policy, grace_seconds| RevocationSettings { check: true, policy, grace_seconds };
    let root = || vec![scene.root.as_root()];
    let only_root = || vec![kept(scene.lab, &scene.root, &ListWish::default())];
    let hard = settings(CrlPolicy::Hard, 0);
    let no_list = Distrust::NoCrl { issuer: "CN=Lab Issuing,O=Lab".into() };
    assert_eq!(judge(&store(root(), only_root(), hard).expect("a store"), &chain), Err(no_list));

    let due = date("2026-06-06T00:00:00Z");
    let later = due.plus(DAY / 2);
    let at = |settings| {
        let store = store(root(), scene.lists(), settings).expect("a store");
        store.judge(&chain, Usage::Client, later).map(|trusted| trusted.until)
    };
    let stale = Distrust::StaleCrl { issuer: "CN=Lab Root,O=Lab".into(), since: due };
    assert_eq!(at(hard), Err(stale.clone()));
    assert_eq!(at(settings(CrlPolicy::Hard, 3600)), Err(stale));
    assert_eq!(at(settings(CrlPolicy::Hard, 86_400)), Ok(due.plus(DAY)));
    assert_eq!(at(settings(CrlPolicy::Hard, u32::MAX)), Ok(due.plus(DAY)), "24 hours at most");
    let leaf_ends = date("2027-01-01T00:00:00Z");
    assert_eq!(at(settings(CrlPolicy::Soft, 0)), Ok(leaf_ends));
    let soft = store(root(), Vec::new(), settings(CrlPolicy::Soft, 0)).expect("a store");
    assert_eq!(soft.judge(&chain, Usage::Client, later).map(|trusted| trusted.until), Ok(leaf_ends));
}

#[test]
fn a_list_for_one_distribution_point_counts_for_certificates_that_name_it() {
    let Some(scene) = Scene::new() else { return };
    let point = "http://crl.lab/issuing.crl";
    let list = ListWish {
        extensions: "issuingDistributionPoint=critical,@point\n[ point ]\nfullname=URI:http://crl.lab/issuing.crl\n",
        ..ListWish::default()
    };
    let mut lists = scene.lists();
    lists.push(kept(scene.lab, &scene.issuing, &list));
    assert_eq!(lists.last().map(|list| list.points.clone()), Some(vec![point.to_owned()]));
    let store = store(vec![scene.root.as_root()], lists, RevocationSettings::default()).expect("a store");
    let with = format!("{CLIENT}crlDistributionPoints=URI:ldap:///CN=x,URI:{point}\n");
    let named = scene.leaf(&Wish { extensions: &with, ..Wish::default() });
    assert_eq!(judge(&store, &[named, scene.issuing.der.clone()]), Ok(()));
    let unnamed = scene.leaf(&Wish::default());
    let missing = Distrust::NoCrl { issuer: "CN=Lab Issuing,O=Lab".into() };
    assert_eq!(judge(&store, &[unnamed, scene.issuing.der.clone()]), Err(missing));
}

#[test]
fn unknown_issuers_are_named_where_the_path_ends() {
    let Some(scene) = Scene::new() else { return };
    let Scene { lab, root, issuing, deeper } = &scene;
    let strict = scene.store();
    let ends = |chain: &[Vec<u8>]| match judge(&strict, chain) {
        Err(Distrust::UnknownIssuer { subject, issuer }) => (subject, issuer),
        other => panic!("{other:?}"),
    };
    let pair = |subject: &str, issuer: &str| (subject.to_owned(), issuer.to_owned());
    let (device, issuing_name) = ("CN=device-1.lab,O=Lab", "CN=Lab Issuing,O=Lab");

    let leaf = scene.leaf(&Wish::default());
    assert_eq!(ends(&[leaf]), pair(device, issuing_name), "missing intermediate");
    let low = lab.issue(deeper, &Wish::default());
    assert_eq!(
        ends(&[low, deeper.der.clone()]),
        pair("CN=Lab Deeper,O=Lab", issuing_name),
        "missing intermediate further up"
    );
    let elsewhere = lab.root("/O=Elsewhere/CN=Elsewhere", "other");
    let foreign = lab.issue(&elsewhere, &Wish::default());
    assert_eq!(ends(&[foreign, elsewhere.der.clone()]).1, "CN=Elsewhere,O=Elsewhere");
    let own = lab.root("/O=Lab/CN=device-1.lab", "leaf");
    assert_eq!(ends(&[own.der]), pair(device, device), "self-signed");

    let key = "(with another key than the one that is known)";
    let false_root = lab.root("/O=Lab/CN=Lab Root", "other");
    let false_leaf = lab.issue(&false_root, &Wish::default());
    assert_eq!(
        ends(&[false_leaf.clone(), false_root.der.clone()]),
        pair("CN=Lab Root,O=Lab", &format!("CN=Lab Root,O=Lab {key}")),
        "a root of the same name"
    );
    assert_eq!(ends(&[false_leaf]), pair(device, &format!("CN=Lab Root,O=Lab {key}")));
    let false_issuing = lab.authority(&false_root, "/O=Lab/CN=Lab Issuing", "other", "24");
    let same_subject = lab.issue(&false_issuing, &Wish::default());
    assert_eq!(
        ends(&[same_subject, issuing.der.clone(), root.der.clone()]),
        pair(device, &format!("{issuing_name} {key}")),
        "the same subject from another authority"
    );
    assert_eq!(judge(&TrustStore::default(), &[]), Err(Distrust::Missing));
    assert!(matches!(
        judge(&TrustStore::default(), &[scene.leaf(&Wish::default())]),
        Err(Distrust::UnknownIssuer { .. })
    ));
}

#[test]
fn a_certificate_for_something_else_is_refused_as_such() {
    let Some(scene) = Scene::new() else { return };
    let wrong = |extensions: &str| match scene.judge(&Wish { extensions, ..Wish::default() }) {
        Err(Distrust::WrongUsage { detail, .. }) => detail,
        other => panic!("{extensions}: {other:?}"),
    };
    let client = "its extended key usage does not name client authentication";
    assert_eq!(wrong("extendedKeyUsage=serverAuth\n"), client);
    assert_eq!(wrong("extendedKeyUsage=codeSigning,emailProtection\n"), client);
    assert_eq!(wrong("extendedKeyUsage=anyExtendedKeyUsage\n"), client);
    assert_eq!(
        wrong("keyUsage=keyEncipherment\nextendedKeyUsage=clientAuth\n"),
        "its key usage does not name digital signatures"
    );
    assert_eq!(wrong(CA), "it is an authority's own certificate");
    for chain in [vec![scene.issuing.der.clone()], vec![scene.root.der.clone()]] {
        assert!(matches!(judge(&scene.lax_store(), &chain), Err(Distrust::WrongUsage { .. })), "authorities");
    }
    assert_eq!(
        scene.judge(&Wish { extensions: "extendedKeyUsage=clientAuth,serverAuth\n", ..Wish::default() }),
        Ok(())
    );
    assert_eq!(
        scene.judge(&Wish { extensions: "subjectKeyIdentifier=hash\n", ..Wish::default() }),
        Ok(()),
        "none"
    );

    let server = scene.leaf(&Wish { extensions: "extendedKeyUsage=serverAuth\n", ..Wish::default() });
    let chain = [server, scene.issuing.der.clone()];
    assert!(scene.store().judge(&chain, Usage::Server, NOW).is_ok());
    let chain = [scene.leaf(&Wish::default()), scene.issuing.der.clone()];
    assert!(matches!(scene.store().judge(&chain, Usage::Server, NOW), Err(Distrust::WrongUsage { .. })));
}

#[test]
fn authorities_issue_only_for_the_usages_that_they_name() {
    let Some(scene) = Scene::new() else { return };
    let below = |usages: &str| {
        let extensions = format!("{CA}extendedKeyUsage={usages}\n");
        let wish = Wish {
            subject: "/O=Lab/CN=Bound",
            key: "other",
            serial: "25",
            extensions: &extensions,
            ..Wish::default()
        };
        let bound = scene.lab.authority_as(&scene.root, &wish);
        judge(&scene.lax_store(), &[scene.lab.issue(&bound, &Wish::default()), bound.der])
    };
    assert_eq!(below("clientAuth,serverAuth"), Ok(()));
    assert_eq!(below("anyExtendedKeyUsage"), Ok(()));
    match below("serverAuth") {
        Err(Distrust::WrongUsage { subject, .. }) => assert_eq!(subject, "CN=Bound,O=Lab"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn weak_keys_and_signatures_are_named_wherever_they_stand() {
    let Some(scene) = Scene::new() else { return };
    let lab = scene.lab;
    let weak = |subject: &str, detail: &str| {
        Err(Distrust::Weak { subject: format!("CN={subject},O=Lab"), detail: detail.to_owned() })
    };
    for (digest, detail) in [("sha1", "signed with SHA-1"), ("sha224", "signed with SHA-224")] {
        assert_eq!(scene.judge(&Wish { digest, ..Wish::default() }), weak("device-1.lab", detail));
    }
    assert_eq!(
        scene.judge(&Wish { key: "rsa-1024", ..Wish::default() }),
        weak("device-1.lab", "RSA with 1024 bits")
    );
    let curve = "an elliptic curve other than P-256, P-384 and P-521";
    assert_eq!(scene.judge(&Wish { key: "p224", ..Wish::default() }), weak("device-1.lab", curve));

    let below = |key, digest| {
        let wish =
            Wish { subject: "/O=Lab/CN=Weak", key, serial: "26", digest, extensions: CA, ..Wish::default() };
        let authority = lab.authority_as(&scene.root, &wish);
        let leaf = lab.issue(&authority, &Wish::default());
        (judge(&scene.lax_store(), &[leaf, authority.der.clone()]), authority)
    };
    assert_eq!(below("other", "sha1").0, weak("Weak", "signed with SHA-1"));
    let (judged, small) = below("rsa-1024", "sha256");
    assert_eq!(judged, weak("Weak", "RSA with 1024 bits"));
    let refused =
        store(vec![small.as_intermediate()], Vec::new(), NO_CHECK).expect_err("not even in the list");
    assert_eq!(refused.0, small.as_intermediate().id());
    assert!(refused.to_string().contains("RSA with 1024 bits"), "{refused}");

    let md5_root = lab.root("/O=Lab/CN=MD5 Root", "rsa-authority");
    let leaf = lab.issue(&md5_root, &Wish { digest: "md5", ..Wish::default() });
    let store = store(vec![md5_root.as_root()], Vec::new(), NO_CHECK).expect("a store");
    assert_eq!(judge(&store, &[leaf]), weak("device-1.lab", "signed with MD5"));
}

#[test]
fn an_old_root_may_be_signed_by_itself_with_sha_1() {
    let Some(lab) = lab() else { return };
    let wish = Wish {
        subject: "/O=Lab/CN=Old Root",
        key: "rsa-authority",
        serial: "01",
        digest: "sha1",
        extensions: CA,
        ..Wish::default()
    };
    let old = lab.authority_as(&lab.root("/O=Lab/CN=Old Root", "rsa-authority"), &wish);
    let store = store(vec![old.as_root()], Vec::new(), NO_CHECK).expect("a store");
    assert_eq!(judge(&store, &[lab.issue(&old, &Wish::default())]), Ok(()));
}

#[test]
fn what_rfc_5280_forbids_is_refused_with_what_is_wrong() {
    let Some(scene) = Scene::new() else { return };
    let invalid = |judged: Result<(), Distrust>| match judged {
        Err(Distrust::Invalid { subject, detail }) => {
            assert_eq!(subject, "CN=device-1.lab,O=Lab");
            detail
        }
        other => panic!("{other:?}"),
    };
    let leaf = |extensions: &str| invalid(scene.judge(&Wish { extensions, ..Wish::default() }));
    assert_eq!(
        leaf(&format!("{CLIENT}1.2.3.4.5=critical,ASN1:NULL\n")),
        "its critical extension 1.2.3.4.5 is not understood"
    );
    assert_eq!(
        leaf("keyUsage=digitalSignature,keyCertSign\n"),
        "it may sign certificates without being an authority's"
    );
    assert_eq!(
        leaf(&format!("{CLIENT}nameConstraints=critical,permitted;DNS:lab\n")),
        "it has name constraints"
    );
    assert_eq!(invalid(scene.judge(&Wish { serial: "00", ..Wish::default() })), "its serial number is zero");
    assert!(leaf(&format!("{CLIENT}1.3.6.1.5.5.7.1.1=ASN1:NULL\n")).contains("cannot be read"));

    let lab = scene.lab;
    let below = |extensions: &str, leaf_extensions: &str| {
        let wish =
            Wish { subject: "/O=Lab/CN=Bound", key: "other", serial: "27", extensions, ..Wish::default() };
        let authority = lab.authority_as(&scene.root, &wish);
        let leaf = lab.issue(&authority, &Wish { extensions: leaf_extensions, ..Wish::default() });
        judge(&scene.lax_store(), &[leaf, authority.der])
    };
    assert_eq!(invalid(below(CLIENT, CLIENT)), "of CN=Bound,O=Lab, it is not an authority's");
    let no_sign = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,cRLSign\nsubjectKeyIdentifier=hash\n";
    assert!(invalid(below(no_sign, CLIENT)).contains("key usage does not allow it to sign certificates"));
    let constrained =
        format!("{CA}nameConstraints=critical,permitted;DNS:lab.example,excluded;DNS:no.lab.example\n");
    let named = |name: &str| below(&constrained, &format!("{CLIENT}subjectAltName=DNS:{name}\n"));
    assert_eq!(named("a.lab.example"), Ok(()));
    for name in ["a.elsewhere.example", "a.no.lab.example"] {
        assert!(invalid(named(name)).contains("lies outside"), "{name}");
    }

    let short = CA.replace("CA:TRUE", "CA:TRUE,pathlen:0");
    let wish = Wish {
        subject: "/O=Lab/CN=Short",
        key: "other",
        serial: "28",
        extensions: &short,
        ..Wish::default()
    };
    let short = lab.authority_as(&scene.root, &wish);
    let under = lab.authority(&short, "/O=Lab/CN=Under", "deeper", "29");
    let chain = [lab.issue(&under, &Wish::default()), under.der, short.der.clone()];
    assert!(invalid(judge(&scene.lax_store(), &chain)).contains("CN=Short,O=Lab allows 0 authorities"));
    assert_eq!(judge(&scene.lax_store(), &[lab.issue(&short, &Wish::default()), short.der]), Ok(()));
}

#[test]
fn a_chain_of_thirty_is_too_long_however_its_authorities_are_known() {
    let Some(scene) = Scene::new() else { return };
    let lab = scene.lab;
    let mut chain = vec![scene.issuing.clone()];
    for depth in 1..30 {
        let above = chain.last().expect("one").clone();
        chain.push(lab.authority(&above, &format!("/O=Lab/CN=Depth {depth}"), "deeper", "41"));
    }
    let mut shown = vec![lab.issue(chain.last().expect("one"), &Wish::default())];
    shown.extend(chain.iter().rev().map(|authority| authority.der.clone()));
    assert_eq!(shown.len(), 31);
    let mut authorities = vec![scene.root.as_root()];
    authorities.extend(chain.iter().map(Authority::as_intermediate));
    let helped = store(authorities, Vec::new(), NO_CHECK).expect("a store");
    for (store, chain) in [(&scene.lax_store(), &shown[..]), (&helped, &shown[..1])] {
        match judge(store, chain) {
            Err(Distrust::Invalid { detail, .. }) => assert!(detail.contains("more than 6"), "{detail}"),
            other => panic!("{other:?}"),
        }
    }
    // Root, issuing, and three more make six with the leaf; a fourth is one too many.
    for (depth, fits) in [(3, true), (4, false)] {
        let mut shown = vec![lab.issue(&chain[depth], &Wish::default())];
        shown.extend(chain[..=depth].iter().rev().map(|authority| authority.der.clone()));
        assert_eq!(judge(&scene.lax_store(), &shown).is_ok(), fits, "depth {depth}");
    }
}

#[test]
fn a_renewed_authority_is_found_beside_its_expired_certificate() {
    let Some(scene) = Scene::new() else { return };
    let old = Wish {
        subject: "/O=Lab/CN=Lab Issuing",
        key: "issuing",
        serial: "20",
        until: "20260301000000Z",
        extensions: CA,
        ..Wish::default()
    };
    let old = scene.lab.authority_as(&scene.root, &old);
    let leaf = scene.leaf(&Wish::default());
    let both = [leaf.clone(), old.der.clone(), scene.issuing.der.clone()];
    assert_eq!(judge(&scene.store(), &both), Ok(()));
    match judge(&scene.store(), &[leaf, old.der]) {
        Err(Distrust::Expired { subject, .. }) => assert_eq!(subject, "CN=Lab Issuing,O=Lab"),
        other => panic!("{other:?}"),
    }
}
