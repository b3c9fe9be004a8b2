//! Management points in HTTPS mode: whose certificate is believed, and who is shown ours.

use std::sync::Arc;
use std::time::Duration;

use proto::bundle::LinkIdentity;
use proto::id::{Guid, Thumbprint};
use proto::link::{FromGateway, RequestHead, RoleTrust, Up};
use proto::trust::Purpose;
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use runtime::config::private_file;
use tempfile::TempDir;

use crate::gateway::{Reply, Shape};
use crate::pki::{Organisation, Pki, own};
use crate::role::{Act, Role, Seen, ok};
use crate::scene::{Scene, head, role as target};

/// Answers with what was shown, as a management point does that demands a certificate.
fn demands(seen: &Seen) -> Act {
    Act::WriteAndClose(match seen.certificate {
        Some(shown) => ok(shown.to_string().as_bytes()),
        None => "HTTP/1.1 403 Client certificate required\r\ncontent-length: 0\r\n\r\n".into(),
    })
}

async fn scene(pki: &Arc<Pki>, url: &str, trust: RoleTrust) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    Scene::of(Arc::clone(pki), target(url, trust, false), Shape::single(), folder, |_| {}).await
}

/// Puts a certificate and its key into the folder; returns the thumbprint.
fn write(folder: &TempDir, name: &str, identity: &LinkIdentity) -> Thumbprint {
    std::fs::write(folder.path().join(format!("{name}.crt")), &identity.certificate_pem).unwrap();
    private_file::write(folder.path().join(format!("{name}.key")), &identity.key_pem).unwrap();
    Thumbprint::from_bytes(own(identity).leaf().thumbprint_sha256())
}

/// Asks again and again until an answer is as wanted.
async fn until_asked(scene: &Scene, what: &str, wanted: impl Fn(Reply) -> bool) {
    let ask = async {
        while !wanted(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), ask).await.is_ok(), "{what}: not within 10 s");
}

#[tokio::test]
async fn a_role_with_a_pki_certificate_is_believed_by_chain_use_and_name() {
    let (pki, ours, theirs) = (Arc::new(Pki::new()), Organisation::new("Ours"), Organisation::new("Theirs"));
    let cases = [
        ("ours", "localhost", ours.issue("localhost", ServerAuth), ours.trust(), 200),
        ("by address", "127.0.0.1", ours.issue("127.0.0.1", ServerAuth), ours.trust(), 200),
        ("another address", "127.0.0.1", ours.issue("127.0.0.2", ServerAuth), ours.trust(), 502),
        ("another name", "localhost", ours.issue("elsewhere.example", ServerAuth), ours.trust(), 502),
        ("a client's", "localhost", ours.issue("localhost", ClientAuth), ours.trust(), 502),
        ("another's", "localhost", theirs.issue("localhost", ServerAuth), ours.trust(), 502),
        ("the site's", "localhost", pki.issue(Purpose::RoleTls, "localhost"), ours.trust(), 502),
        ("ours for the site's", "localhost", ours.issue("localhost", ServerAuth), RoleTrust::Site, 502),
    ];
    for (what, host, identity, trust, expected) in cases {
        let role = Role::start_tls(&identity, |_| Act::Write(ok(b"tls"))).await;
        let scene = scene(&pki, &format!("https://{host}:{}", role.address.port()), trust).await;
        let reply = scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await;
        assert_eq!(reply.status(), expected, "{what}");
        assert!(role.seen().iter().all(|seen| seen.certificate.is_none()), "{what}");
    }
}

#[tokio::test]
async fn a_roles_renewed_certificate_is_believed_at_the_next_connection() {
    let (pki, ours) = (Arc::new(Pki::new()), Organisation::new("Ours"));
    for (trust, issue) in [
        (ours.trust(), &(|| ours.issue("localhost", ServerAuth)) as &dyn Fn() -> LinkIdentity),
        (RoleTrust::Site, &|| pki.issue(Purpose::RoleTls, "localhost")),
    ] {
        let role = Role::start_tls(&issue(), |_| Act::WriteAndClose(ok(b"tls"))).await;
        let scene = scene(&pki, &format!("https://localhost:{}", role.address.port()), trust).await;
        for _ in 0..2 {
            assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), 200);
            role.own.as_ref().unwrap().replace(own(&issue()));
        }
        assert_eq!(role.connections(), 2);
    }
}

#[tokio::test]
async fn a_new_connection_takes_up_a_session_of_one_before_it_whose_certificate_is_judged_again() {
    let (pki, ours, theirs) = (Arc::new(Pki::new()), Organisation::new("Ours"), Organisation::new("Theirs"));
    let role =
        Role::start_tls(&ours.issue("localhost", ServerAuth), |_| Act::WriteAndClose(ok(b"tls"))).await;
    let url = format!("https://localhost:{}", role.address.port());
    let scene = scene(&pki, &url, ours.trust()).await;
    for _ in 0..4 {
        assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), 200);
    }
    let resumed: Vec<_> = role.seen().iter().map(|seen| seen.resumed).collect();
    assert_eq!(resumed, [false, true, true, true], "by one thread");
    // Another trust is another judge, who knows no session.
    scene.site.say(target(&url, theirs.trust(), false));
    until_asked(&scene, "the session is of no use", |reply| reply.status() == 502).await;
}

#[tokio::test]
async fn trust_that_was_withdrawn_ends_the_connections_that_were_kept_under_it() {
    let (pki, ours, theirs) = (Arc::new(Pki::new()), Organisation::new("Ours"), Organisation::new("Theirs"));
    let role = Role::start_tls(&ours.issue("localhost", ServerAuth), |_| Act::Write(ok(b"tls"))).await;
    let url = format!("https://localhost:{}", role.address.port());
    let scene = scene(&pki, &url, ours.trust()).await;
    for _ in 0..2 {
        assert_eq!(scene.gateway.ask(&head("GET", "/CCM_STS"), b"").await.status(), 200);
    }
    assert_eq!(role.connections(), 1, "kept");
    scene.site.say(target(&url, theirs.trust(), false));
    until_asked(&scene, "the kept connection is not used", |reply| reply.status() == 502).await;
}

#[tokio::test]
async fn a_role_that_demands_a_certificate_is_shown_the_right_one_of_several() {
    let (pki, ours, theirs) = (Arc::new(Pki::new()), Organisation::new("Ours"), Organisation::new("Theirs"));
    let role = Role::start_tls(&ours.issue("localhost", ServerAuth), demands).await;
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "a-foreign", &theirs.issue("cp.example", ClientAuth));
    write(&folder, "b-server", &ours.issue("cp.example", ServerAuth));
    let good = write(&folder, "c-good", &ours.issue("cp.example", ClientAuth));
    let path = folder.path().to_owned();
    let url = format!("https://localhost:{}", role.address.port());
    let roles = target(&url, ours.trust(), true);
    let scene = Scene::of(pki, roles, Shape::single(), folder, |config| {
        config.client_certificate = connector::Paths::One(path.clone());
        config.client_key = connector::Paths::Many(
            ["a-foreign", "b-server", "c-good"].map(|name| path.join(format!("{name}.key"))).into(),
        );
    })
    .await;
    let certificate = Thumbprint::of(b"a device's");
    let asked = RequestHead { certificate: Some(certificate), ..head("GET", "/CCM_STS") };
    let (answer, body) = scene.gateway.ask(&asked, b"").await.answer();
    assert_eq!((answer.status, body.as_ref()), (200, good.to_string().as_bytes()));
    let seen = &role.seen()[0];
    assert_eq!(seen.header("roamgate-peer-certificate"), Some(certificate.to_string().as_str()));

    scene.site.say(target(&url, ours.trust(), false));
    until_asked(&scene, "nothing is shown that is not demanded", |reply| reply.status() == 403).await;
}

#[tokio::test]
async fn without_a_certificate_the_roles_own_refusal_reaches_the_device() {
    let (pki, ours) = (Arc::new(Pki::new()), Organisation::new("Ours"));
    let role = Role::start_tls(&ours.issue("localhost", ServerAuth), demands).await;
    let url = format!("https://localhost:{}", role.address.port());
    let folder = tempfile::tempdir().unwrap();
    let roles = target(&url, ours.trust(), true);
    let scene = Scene::of(pki, roles, Shape::single(), folder, |_| {}).await;
    let (answer, _) = scene.gateway.ask(&head("GET", "/SMS_MP/.sms_aut?SITESIGNCERT"), b"").await.answer();
    assert_eq!(
        (answer.status, answer.phrase.as_deref()),
        (403, Some("CMGConnector_Clientcertificaterequired"))
    );
}

#[tokio::test]
async fn a_wish_for_a_tenants_keys_is_passed_up() {
    let role = Role::echo().await;
    let mut scene = Scene::start(&role).await;
    let tenant = Guid::from_bytes([3; 16]);
    scene.gateway.say(&FromGateway::WantKeys { tenant });
    let heard = scene
        .site
        .hear("the wish", |up| match up {
            Up::WantKeys { tenant } => Some(*tenant),
            _ => None,
        })
        .await;
    assert_eq!(heard, tenant);
}
