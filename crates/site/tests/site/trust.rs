use std::path::Path;

use proto::pki::{CrlPolicy, Distrust, TrustedCa, Usage};
use proto::snapshot::{Change, Publication, Snapshot};
use proto::token::TokenClass;
use proto::trust::SiteRoot;
use site::{
    Approval, CcmSubject, Evidence, NewGateway, NewRole, PkiCredential, PutCrlError, ReadAuthoritiesError,
    RoleChange, RoleMode, Site, TrustError, read_authorities,
};

use crate::lab_pki::LabCa;
use crate::support::{TestSite, anna, device, key_of, now};

const ROOT_URL: &str = "http://crl.example.org/root.crl";
const ISSUING_URL: &str = "http://crl.example.org/issuing.crl";

fn file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/authorities").join(name)).unwrap()
}

struct Pki {
    root: LabCa,
    issuing: LabCa,
}

impl Pki {
    fn new() -> Self {
        let root = LabCa::root("Lab Root");
        let issuing = root.issuing("Lab Issuing", ROOT_URL);
        Self { root, issuing }
    }

    async fn trusted_by(site: &Site) -> Self {
        let pki = Self::new();
        site.add_trust(&anna(), vec![pki.root.trusted(), pki.issuing.trusted()]).await.unwrap();
        pki
    }

    /// With a list of each authority, number 1, empty.
    async fn listed_at(site: &Site) -> Self {
        let pki = Self::trusted_by(site).await;
        for list in [pki.root.crl(1, []), pki.issuing.crl(1, [])] {
            site.put_crl(&anna(), &list).await.unwrap();
        }
        pki
    }
}

fn judge(test: &TestSite, leaf: &[u8]) -> Result<(), Distrust> {
    test.site.trust_store().judge(&[leaf.to_vec()], Usage::Client, now(test)).map(drop)
}

#[test]
fn authorities_are_read_from_every_form_in_which_people_have_them() {
    let root = file("root.cer");
    let all = read_authorities(&file("chain.pem"), None).unwrap();
    assert_eq!(all.iter().map(|ca| ca.root).collect::<Vec<_>>(), [false, true], "the device is passed over");
    assert_eq!(all[1], TrustedCa { der: root.clone(), root: true });
    assert_eq!(read_authorities(&root, None).unwrap(), [all[1].clone()]);
    let same = |bytes: &[u8], password| {
        let mut read = read_authorities(bytes, password).unwrap();
        read.sort_by_key(|ca| ca.root);
        assert_eq!(read, all);
    };
    same(&file("chain.p7b"), None);
    same(&file("chain-pem.p7b"), None);
    same(&file("chain.pfx"), Some("geheim-ü"));
    let twice = [file("chain.pem"), file("chain.pem")].concat();
    same(&twice, None);
}

#[test]
fn a_file_that_holds_no_authority_says_what_it_is() {
    let refused = |bytes: &[u8], password| read_authorities(bytes, password).unwrap_err();
    assert_eq!(refused(&file("chain.pfx"), Some("wrong")), ReadAuthoritiesError::Password);
    assert_eq!(refused(&file("chain.pfx"), None), ReadAuthoritiesError::Password);
    let device: Vec<u8> = {
        let pem = file("chain.pem");
        let end = pem.windows(25).position(|w| w == b"-----END CERTIFICATE-----").unwrap();
        pem[..end + 25].to_vec()
    };
    assert_eq!(refused(&device, None), ReadAuthoritiesError::NoAuthority(1));
    let key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for nothing in [b"".as_slice(), b"<html>", b"0\x82", key, &file("chain.p7b")[..400]] {
        assert_eq!(refused(nothing, None), ReadAuthoritiesError::Unreadable);
    }
    assert_eq!(refused(&vec![b'a'; 5 * 1024 * 1024], None), ReadAuthoritiesError::TooMany);
}

#[tokio::test]
async fn an_authority_is_added_once_and_removed_with_its_list() {
    let test = TestSite::new().await;
    let pki = Pki::listed_at(&test.site).await;
    let again = test.site.add_trust(&anna(), vec![pki.issuing.trusted()]).await.unwrap();
    assert_eq!(again.len(), 1);
    let list = test.site.list_trust().await.unwrap();
    let names: Vec<_> = list.iter().map(|a| (a.subject.as_str(), a.issuer.as_str(), a.root)).collect();
    assert_eq!(names, [("CN=Lab Root", "CN=Lab Root", true), ("CN=Lab Issuing", "CN=Lab Root", false)]);
    assert_eq!(list[1].crl.as_ref().unwrap().source, "given by operator:anna");
    assert_eq!(test.site.current_snapshot().revocations.len(), 2);

    let removed = test.site.remove_trust(&anna(), list[1].id).await.unwrap();
    assert_eq!(removed.subject, "CN=Lab Issuing");
    assert_eq!(test.site.current_snapshot().revocations.len(), 1);
    let gone = test.site.remove_trust(&anna(), list[1].id).await;
    assert!(matches!(gone, Err(TrustError::Unknown(_))));
    let audit = test.site.list_audit(None, 20).await.unwrap();
    let acts: Vec<_> = audit.iter().rev().map(|row| row.act.as_str()).collect();
    assert_eq!(acts[1..], ["trust.add", "trust.add", "crl.put", "crl.put", "trust.remove"]);
}

#[tokio::test]
async fn the_sites_own_authorities_and_what_is_none_are_not_taken() {
    let test = TestSite::new().await;
    let own = TrustedCa { der: test.site.root_certificate(), root: true };
    assert!(matches!(test.site.add_trust(&anna(), vec![own]).await, Err(TrustError::Own(_))));
    let role = test.site.message_chain().pop().unwrap();
    let own = TrustedCa { der: role, root: true };
    assert!(matches!(test.site.add_trust(&anna(), vec![own]).await, Err(TrustError::Own(_))));
    let pki = Pki::new();
    let leaf = TrustedCa { der: pki.issuing.device("PC1", 7, ISSUING_URL), root: true };
    assert!(matches!(test.site.add_trust(&anna(), vec![leaf]).await, Err(TrustError::Unusable(_))));
    let garbage = TrustedCa { der: vec![0x30, 0], root: true };
    assert!(test.site.add_trust(&anna(), vec![garbage]).await.is_err());
    assert!(test.site.list_trust().await.unwrap().is_empty(), "nothing of it stays");
}

#[tokio::test]
async fn trust_and_lists_count_at_once_and_each_change_is_another_generation() {
    let test = TestSite::new().await;
    let before = test.site.trust_generation();
    let pki = Pki::trusted_by(&test.site).await;
    assert!(test.site.trust_generation() > before);
    let leaf = pki.issuing.device("PC1", 7, ISSUING_URL);
    assert!(matches!(judge(&test, &leaf), Err(Distrust::NoCrl { .. })), "fail closed");

    test.site.put_crl(&anna(), &pki.root.crl(1, [])).await.unwrap();
    test.site.put_crl(&anna(), &pki.issuing.crl(1, [])).await.unwrap();
    assert_eq!(judge(&test, &leaf), Ok(()));
    let generation = test.site.trust_generation();
    test.site.put_crl(&anna(), &pki.issuing.crl(2, [7])).await.unwrap();
    assert!(matches!(judge(&test, &leaf), Err(Distrust::Revoked { .. })));
    assert_eq!(test.site.trust_generation(), generation + 1);

    // What has nothing to do with trust keeps the verdicts.
    test.site.create_bulk_token(&anna(), site::NewBulkToken::default()).await.unwrap();
    test.site.set_setting(&anna(), "token_binding", "off").await.unwrap();
    assert_eq!(test.site.trust_generation(), generation + 1);
    let test = test.restart().await;
    assert!(matches!(judge(&test, &leaf), Err(Distrust::Revoked { .. })), "and after a restart");
}

#[tokio::test]
async fn the_settings_of_revocation_are_published_and_weak_ones_are_alarms() {
    let test = TestSite::new().await;
    let pki = Pki::listed_at(&test.site).await;
    let leaf = pki.issuing.device("PC1", 7, ISSUING_URL);
    test.advance(9 * 86_400);
    assert!(matches!(judge(&test, &leaf), Err(Distrust::StaleCrl { .. })));
    let kinds = || async {
        let alarms = test.site.list_alarms().await.unwrap();
        alarms.into_iter().map(|alarm| (alarm.kind, alarm.object)).collect::<Vec<_>>()
    };
    assert_eq!(kinds().await, [("crl", "CN=Lab Root".into()), ("crl", "CN=Lab Issuing".into())]);

    test.site.set_setting(&anna(), "crl_grace", "1440").await.unwrap();
    assert!(judge(&test, &leaf).is_err(), "a day is not enough");
    test.site.set_setting(&anna(), "crl_policy", "soft").await.unwrap();
    assert_eq!(judge(&test, &leaf), Ok(()));
    let published = test.site.current_snapshot().settings.revocation;
    assert_eq!((published.policy, published.grace_seconds), (CrlPolicy::Soft, 86_400));
    test.site.set_setting(&anna(), "client_crl_check", "off").await.unwrap();
    assert!(!test.site.current_snapshot().settings.revocation.check);
    let settings: Vec<_> = kinds().await.into_iter().map(|(_, object)| object).collect();
    assert_eq!(settings, ["client_crl_check", "crl_policy", "crl_grace"], "nothing is missed then");
}

#[tokio::test]
async fn a_list_follows_its_predecessor_and_never_an_older_one() {
    let test = TestSite::new().await;
    let site = &test.site;
    let pki = Pki::listed_at(site).await;
    let second = pki.issuing.crl(2, 0..500);
    let state = site.put_fetched_crl(ISSUING_URL, &second).await.unwrap();
    assert_eq!((state.number.as_str(), state.entries, state.source.as_str()), ("02", 500, ISSUING_URL));
    let version = site.current_snapshot().version;
    site.put_fetched_crl(ISSUING_URL, &second).await.unwrap();
    assert_eq!(site.current_snapshot().version, version, "the same list again is no change");

    let refused = |bytes: Vec<u8>| async move { site.put_crl(&anna(), &bytes).await.unwrap_err() };
    assert!(matches!(refused(pki.issuing.crl(1, [])).await, PutCrlError::Crl(_)), "rolled back");
    assert!(matches!(refused(pki.issuing.crl(2, [])).await, PutCrlError::Crl(_)), "the same number");
    let stranger = LabCa::root("Lab Issuing");
    assert!(matches!(refused(stranger.crl(9, [])).await, PutCrlError::Crl(_)), "another key");
    let unknown = LabCa::root("Somebody");
    assert!(matches!(refused(unknown.crl(9, [])).await, PutCrlError::NoAuthority(_)));
    for garbage in [b"".to_vec(), b"<html>".to_vec(), second[..second.len() - 1].to_vec()] {
        assert!(matches!(refused(garbage).await, PutCrlError::Crl(_)));
    }
    assert_eq!(site.current_snapshot().version, version);
}

fn follow(snapshot: &mut Snapshot, signed: &proto::snapshot::Signed, root: &SiteRoot, test: &TestSite) {
    match signed.open(root, now(test)).unwrap() {
        Publication::Snapshot(_) => panic!("a delta was expected"),
        Publication::Delta(delta) => snapshot.apply_delta(delta).unwrap(),
    }
}

#[tokio::test]
async fn gateways_get_the_changes_of_a_list_where_those_are_fewer() {
    let test = TestSite::new().await;
    let site = &test.site;
    let root = SiteRoot::new(site.root_certificate()).unwrap();
    let pki = Pki::listed_at(site).await;
    site.put_crl(&anna(), &pki.issuing.crl(2, 0..2000)).await.unwrap();
    let Publication::Snapshot(mut gateway) = site.snapshot().unwrap().open(&root, now(&test)).unwrap() else {
        panic!()
    };
    let mut sizes = Vec::new();
    for (number, serials) in [(3, 0..2001), (4, 5..2001), (5, 0..3)] {
        site.put_crl(&anna(), &pki.issuing.crl(number, serials)).await.unwrap();
        let signed = site.changes_since(gateway.version).await.unwrap().unwrap();
        sizes.push(signed.payload.len());
        follow(&mut gateway, &signed, &root, &test);
        assert_eq!(*gateway, *site.current_snapshot());
    }
    assert!(sizes[0] < 1000 && sizes[1] < 1000, "{sizes:?}");
    assert!(sizes[2] < 1000, "a list that shrank is sent whole: {sizes:?}");
}

#[tokio::test]
async fn a_large_list_is_shared_by_all_versions_and_what_came_before_it_is_sent_whole() {
    let test = TestSite::new().await;
    let site = &test.site;
    let pki = Pki::listed_at(site).await;
    let behind = site.current_snapshot().version;
    // Serials without any order, as authorities draw them, do not pack well.
    let scattered = (0..120_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 1);
    site.put_crl(&anna(), &pki.issuing.crl(2, scattered)).await.unwrap();
    let list = |snapshot: &Snapshot| {
        snapshot.revocations.values().find(|list| list.revoked.len() == 120_000).cloned().unwrap()
    };
    let before = list(&site.current_snapshot());
    site.create_bulk_token(&anna(), site::NewBulkToken::default()).await.unwrap();
    let token = site.create_bulk_token(&anna(), site::NewBulkToken::default()).await.unwrap().token.id;
    site.block_bulk_token(&anna(), token).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&before, &list(&site.current_snapshot())));
    let root = SiteRoot::new(site.root_certificate()).unwrap();
    let late = site.changes_since(behind - 1).await.unwrap().unwrap();
    assert!(matches!(late.open(&root, now(&test)).unwrap(), Publication::Snapshot(_)));
}

#[tokio::test]
async fn a_stale_list_stays_in_force_over_a_cold_start_and_the_next_one_takes_its_place() {
    let test = TestSite::new().await;
    let pki = Pki::listed_at(&test.site).await;
    let leaf = pki.issuing.device("PC1", 7, ISSUING_URL);
    test.advance(30 * 86_400);
    let test = test.restart().await;
    assert!(matches!(judge(&test, &leaf), Err(Distrust::StaleCrl { .. })), "stale, and not missing");
    let rolled_back = pki.issuing.crl_at(0, [], now(&test));
    assert!(test.site.put_crl(&anna(), &rolled_back).await.is_err());
    for list in [pki.root.crl_at(2, [], now(&test)), pki.issuing.crl_at(2, [], now(&test))] {
        test.site.put_crl(&anna(), &list).await.unwrap();
    }
    assert_eq!(judge(&test, &leaf), Ok(()));
}

/// Registers device `number` with this certificate, as a management point does that has judged it.
async fn register(test: &TestSite, number: u32, leaf: &[u8]) -> site::Registration {
    let thumbprint = proto::id::Thumbprint::of(leaf);
    let mut new = device(number);
    new.credentials.pki = Some(PkiCredential {
        thumbprint,
        subject: format!("CN=PC{number}"),
        not_after: now(test).plus(std::time::Duration::from_hours(24 * 365)),
        chain: vec![leaf.to_vec()],
    });
    test.site.register_client(None, new, Evidence::Certificate { thumbprint }).await.unwrap()
}

#[tokio::test]
async fn removing_an_authority_can_be_tried_and_says_which_devices_would_fail() {
    let test = TestSite::new().await;
    let pki = Pki::listed_at(&test.site).await;
    let other = LabCa::root("Other Root");
    test.site.add_trust(&anna(), vec![other.trusted()]).await.unwrap();
    test.site.put_crl(&anna(), &other.crl(1, [9])).await.unwrap();
    for (number, leaf) in [
        (1, pki.issuing.device("PC1", 1, ISSUING_URL)),
        (2, pki.issuing.device("PC2", 2, ISSUING_URL)),
        (3, other.device("PC3", 3, "http://crl.example.org/other.crl")),
        (4, other.device("PC4", 9, "http://crl.example.org/other.crl")),
    ] {
        let registered = register(&test, number, &leaf).await;
        assert_eq!((registered.approval, registered.approval_by.as_str()), (Approval::Approved, "pki"));
    }
    let version = test.site.current_snapshot().version;
    let failing = |id| {
        let site = test.site.clone();
        async move {
            let failing = site.judge_without(id).await.unwrap();
            let mut names: Vec<_> = failing
                .iter()
                .map(|(device, why)| (device.name.clone(), matches!(why, Distrust::UnknownIssuer { .. })))
                .collect();
            names.sort();
            names
        }
    };
    let both = [("PC1".to_owned(), true), ("PC2".to_owned(), true)];
    assert_eq!(failing(pki.issuing.trusted().id()).await, both);
    assert_eq!(failing(pki.root.trusted().id()).await, both);
    assert_eq!(failing(other.trusted().id()).await, [("PC3".to_owned(), true)], "PC4 is revoked anyway");
    assert_eq!(test.site.current_snapshot().version, version, "nothing was changed");
    let unknown = test.site.judge_without(proto::id::Thumbprint::of(b"x")).await;
    assert!(matches!(unknown, Err(TrustError::Unknown(_))));
}

#[tokio::test]
async fn an_operator_says_where_a_list_is_and_no_devices_certificate_does() {
    let test = TestSite::new().await;
    let pki = Pki::listed_at(&test.site).await;
    register(&test, 1, &pki.issuing.device("PC1", 1, "http://evil.example.org/x.crl")).await;
    let id = pki.issuing.trusted().id();
    let urls = async || test.site.list_crl_sources().await.unwrap()[1].urls.clone();
    assert!(urls().await.is_empty(), "a certificate that a device shows names nothing to be fetched");
    test.site.name_distribution_point(&anna(), id, ISSUING_URL).await.unwrap();
    assert_eq!(urls().await, [ISSUING_URL]);
    for wrong in ["ldap://dc/x", "ftp://h/x", "http://", "file:///etc/passwd", "http://u@h/x"] {
        let refused = test.site.name_distribution_point(&anna(), id, wrong).await;
        assert!(matches!(refused, Err(TrustError::Url(_))), "{wrong}");
    }
    for number in 0..20 {
        let url = format!("http://crl{number}.example.org/issuing.crl");
        test.site.name_distribution_point(&anna(), id, &url).await.unwrap();
    }
    assert_eq!(urls().await.len(), 8, "the oldest are forgotten");
}

#[tokio::test]
async fn places_of_lists_come_from_authorities_and_attempts_are_noted() {
    let test = TestSite::new().await;
    let pki = Pki::listed_at(&test.site).await;
    let sources = test.site.list_crl_sources().await.unwrap();
    assert_eq!(sources[0].urls, [ROOT_URL], "by the certificate of the authority below");
    assert!(sources[1].urls.is_empty(), "nobody has said where: it is uploaded");
    let issuer = sources[1].issuer;
    test.site.note_crl_failure(issuer, "HTTP 500\nfrom a proxy").await.unwrap();
    let list = test.site.list_trust().await.unwrap();
    assert_eq!(list[1].crl_problem.as_deref(), Some("HTTP 500from a proxy"));
    let alarms = test.site.list_alarms().await.unwrap();
    assert!(alarms[0].text.ends_with("the list in force goes on."), "{}", alarms[0].text);
    test.site.put_crl(&anna(), &pki.issuing.crl(2, [])).await.unwrap();
    assert!(test.site.list_alarms().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_role_in_https_mode_is_trusted_by_the_list_and_connection_points_hear_of_changes() {
    let test = TestSite::new().await;
    let site = &test.site;
    let new = NewRole {
        name: "mp1".into(),
        internal_url: "https://mp1".into(),
        mode: RoleMode::Https,
        gateway_traffic: true,
    };
    let role = site.add_role(&anna(), new).await.unwrap();
    let change = RoleChange { demand_client_certificate: Some(true), ..RoleChange::default() };
    site.set_role(&anna(), role.id, change).await.unwrap();
    let mut watch = site.watch_published();
    let topology = watch.borrow_and_update().topology;
    Pki::trusted_by(site).await;
    assert_eq!(watch.borrow_and_update().topology, topology + 1);
    let target = &site.list_role_targets().await.unwrap()[0];
    assert!(target.client_certificate);
    let proto::link::RoleTrust::Pki { list } = &target.trust else { panic!("{target:?}") };
    assert_eq!(list.authorities.len(), 2);
    assert!(site.find_role(role.id).await.unwrap().unwrap().demand_client_certificate);
}

#[tokio::test]
async fn a_withdrawn_link_certificate_stands_on_the_sites_own_list() {
    let test = TestSite::new().await;
    let site = &test.site;
    let new = |name: &str| NewGateway { name: name.into(), host: "g".into(), address: "g:443".into() };
    let kept = site.add_gateway(&anna(), new("kept")).await.unwrap();
    let gone = site.add_gateway(&anna(), new("gone")).await.unwrap();
    site.remove_gateway(&anna(), gone.gateway).await.unwrap();
    let chain = |pem: &str| -> Vec<Vec<u8>> {
        x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).map(|pem| pem.unwrap().contents).collect()
    };
    let authority = chain(&kept.link.certificate_pem).pop().unwrap();
    let list = proto::pki::Crl::parse(&site.site_crl().await.unwrap()).unwrap();
    let list = list.verify(&authority, None, now(&test)).unwrap();
    let serial = |pem: &str| {
        let leaf = chain(pem).remove(0);
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        proto::pki::Serial::from_magnitude(leaf.raw_serial()).unwrap()
    };
    assert!(list.revoked.get(serial(&gone.link.certificate_pem)).is_some());
    assert!(list.revoked.get(serial(&kept.link.certificate_pem)).is_none());
    assert_eq!(list.revoked.len(), 1);
}

#[tokio::test]
async fn a_removed_authority_is_gone_at_gateways_too() {
    let test = TestSite::new().await;
    let pki = Pki::listed_at(&test.site).await;
    let version = test.site.current_snapshot().version;
    test.site.remove_trust(&anna(), pki.issuing.trusted().id()).await.unwrap();
    let signed = test.site.changes_since(version).await.unwrap().unwrap();
    let root = SiteRoot::new(test.site.root_certificate()).unwrap();
    let Publication::Delta(delta) = signed.open(&root, now(&test)).unwrap() else { panic!() };
    assert!(matches!(delta.changes[..], [Change::SetTrust(_), Change::RemoveRevocations(_)]));
}

#[tokio::test]
async fn a_certificate_buys_a_token_for_the_device_that_it_stands_on_only() {
    let test = TestSite::new().await;
    let pki = Pki::listed_at(&test.site).await;
    let leaf = pki.issuing.device("PC1", 1, ISSUING_URL);
    let thumbprint = proto::id::Thumbprint::of(&leaf);
    let ask = |number, pki| test.site.issue_ccm_token(CcmSubject::Certificate { key: key_of(number), pki });
    assert_eq!(ask(1, thumbprint).await.unwrap().class, TokenClass::PreAuth, "nobody is registered yet");
    register(&test, 1, &leaf).await;
    assert_eq!(ask(1, thumbprint).await.unwrap().class, TokenClass::Device);
    let other = ask(1, proto::id::Thumbprint::of(b"another")).await;
    assert!(matches!(other, Err(site::CcmTokenError::OtherCertificate(_))));
}
