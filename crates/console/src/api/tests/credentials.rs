//! The routes about trust, tenants, users, collections and settings, each doing its work.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber,
};
use serde_json::{Value, json};
use site::{SyncSource, TenantPart};

use super::Walk;
use crate::testing::Host;

const TENANT: &str = "9aaf466a-3f40-4468-b3cd-f0010f21f05a";

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Corp Root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn crl(issuer: &CertifiedIssuer<'static, KeyPair>) -> Vec<u8> {
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 9, 1),
        next_update: rcgen::date_time_ymd(2027, 9, 1),
        crl_number: SerialNumber::from_slice(&[7]),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().to_vec()
}

pub(super) async fn walk(host: &Host, walk: &mut Walk) {
    walk_trust(walk).await;
    walk_tenants(host, walk).await;
    walk_directories(host, walk).await;
    walk_collections(walk).await;
    walk_device(host, walk).await;

    let expected = walk.call("POST", "/expected-devices", "", Some(json!({"name": "PC9"})), 201).await;
    assert_eq!(walk.get("/expected-devices", "").await[0]["name"], "PC9");
    let id = expected["id"].as_str().unwrap();
    walk.call("DELETE", "/expected-devices/{id}", id, None, 200).await;
    assert!(walk.get("/alarms", "").await.is_array());
}

async fn walk_trust(walk: &mut Walk) {
    let root = authority();
    let file = json!({"file": STANDARD.encode(root.pem())});
    let added = walk.call("POST", "/trust", "", Some(file), 201).await;
    let id = added[0]["id"].as_str().unwrap().to_owned();
    let listed = walk.get("/trust", "").await;
    assert_eq!((&listed[0]["kind"], &listed[0]["subject"]), (&json!("root"), &json!("CN=Corp Root")));
    let place = json!({"url": "http://pki.corp.example/root.crl"});
    walk.call("PUT", "/trust/{id}/distribution-point", &id[..12], Some(place), 200).await;
    let list = json!({"file": STANDARD.encode(crl(&root))});
    let state = walk.call("POST", "/trust/crl", "", Some(list), 200).await;
    assert_eq!((&state["number"], &state["entries"]), (&json!("07"), &json!(0)));

    let mut leaf = CertificateParams::new(vec!["pc1.example.org".into()]).unwrap();
    leaf.not_before = rcgen::date_time_ymd(2026, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(2027, 1, 1);
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &root).unwrap();
    let body = json!({"certificate": STANDARD.encode(leaf.pem())});
    let verdict = walk.call("POST", "/trust/check", "", Some(body.clone()), 200).await;
    assert_eq!((&verdict["verdict"], &verdict["cause"]), (&json!("trusted"), &Value::Null), "{verdict}");
    let later = json!({"certificate": STANDARD.encode(leaf.pem()), "at": "2027-06-01T00:00:00Z"});
    let verdict = walk.call("POST", "/trust/check", "", Some(later), 200).await;
    assert_eq!((&verdict["verdict"], &verdict["reason"]), (&json!("refused"), &json!("RG-1312")));

    assert_eq!(walk.get("/trust/{id}/effect", &id[..12]).await, json!([]), "no device has a certificate");
    walk.call("DELETE", "/trust/{id}", &id[..12], None, 200).await;
    let verdict = walk.call("POST", "/trust/check", "", Some(body), 200).await;
    assert_eq!(verdict["reason"], "RG-1311");
    let verdict = walk.call("POST", "/tokens/check", "", Some(json!({"token": "a.b.c"})), 200).await;
    assert_eq!((&verdict["verdict"], &verdict["reason"]), (&json!("refused"), &json!("RG-1202")));
    let crl = walk.get("/site/crl", "").await;
    assert!(crl["pem"].as_str().unwrap().starts_with("-----BEGIN X509 CRL-----"));
}

/// What the fetcher of a real host does, here with nobody to be reached.
fn spawn_fetcher(host: &Host) {
    let (site, drain) = (host.site.clone(), host.drain.clone());
    let tenant = TENANT.parse().unwrap();
    host.drain.spawn(async move {
        let mut attempts = 0;
        loop {
            tokio::select! {
                () = drain.started() => return,
                () = site.wanted_keys().notified() => {
                    attempts += 1;
                    let text = format!("nobody answers there, {attempts} times");
                    site.note_tenant_failure(tenant, TenantPart::Keys, &text).await.unwrap();
                }
                () = site.wanted_syncs().notified() => {
                    for due in site.list_due_syncs().await.unwrap() {
                        let sync = site.begin_sync(due.source).await.unwrap();
                        let text = match due.source {
                            SyncSource::Tenant(_) => "consent missing",
                            SyncSource::Directory(_) => "wrong password",
                        };
                        site.fail_sync(sync, text, None).await.unwrap();
                    }
                }
            }
        }
    });
}

async fn walk_tenants(host: &Host, walk: &mut Walk) {
    spawn_fetcher(host);
    let body = json!({
        "tenant_id": TENANT, "name": "corp", "resource": "https://ConfigMgrService", "client_app_id": "app",
        "discovery_app_id": "server-app", "secret": "a canary",
    });
    let added = walk.call("POST", "/tenants", "", Some(body), 201).await;
    assert_eq!(added["problem"], "nobody answers there, 1 times");
    assert!(added["issuers"].to_string().contains("sts.windows.net"), "{added}");
    assert!(!added["still_off"].as_array().unwrap().is_empty(), "{added}");
    let shown = walk.get("/tenants/{tenant}", "corp").await;
    assert!(!shown.to_string().contains("canary"));
    assert_eq!(walk.get("/tenants", "").await[0]["enabled"], true);
    let off = walk.call("POST", "/tenants/{tenant}/disable", "corp", Some(json!({})), 200).await;
    assert_eq!(off["enabled"], false);
    let on = walk.call("POST", "/tenants/{tenant}/enable", TENANT, Some(json!({})), 200).await;
    assert_eq!(on["enabled"], true);
    // It was synchronised at once when it was added; the next run is at another moment.
    host.clock.advance(std::time::Duration::from_secs(1));
    let synced = walk.call("POST", "/tenants/{tenant}/sync", "corp", Some(json!({"full": true})), 200).await;
    assert!(synced["problem"].is_string(), "{synced}");
    // Keys are looked for once in half a minute at most.
    host.clock.advance(std::time::Duration::from_mins(1));
    walk.call("POST", "/tenants/{tenant}/verify", "corp", Some(json!({})), 200).await;
    assert_eq!(walk.get("/users?incomplete=true", "").await, json!([]));
    walk.called.insert(("GET".into(), "/users".into()));
    walk.call("GET", "/users/{user}", "nobody@corp", None, 404).await;
    walk.call("DELETE", "/tenants/{tenant}", "corp", None, 200).await;
}

async fn walk_directories(host: &Host, walk: &mut Walk) {
    let body = json!({"name": "corp", "url": "ldaps://dc.corp.example", "base": "DC=corp,DC=example"});
    walk.call("POST", "/directories", "", Some(body), 201).await;
    host.clock.advance(std::time::Duration::from_secs(1));
    let synced = walk.call("POST", "/directories/{directory}/sync", "corp", Some(json!({})), 200).await;
    assert_eq!(synced["problem"], "wrong password");
    assert_eq!(walk.get("/directories", "").await[0]["name"], "corp");
    assert_eq!(walk.get("/directories/unsynced-units", "").await, json!([]));
    walk.call("DELETE", "/directories/{directory}", "corp", None, 200).await;
}

async fn walk_collections(walk: &mut Walk) {
    walk.call("POST", "/collections", "", Some(json!({"name": "Kiosks"})), 201).await;
    walk.call("PUT", "/collections/{collection}/devices/{device}", "Kiosks|PC1", Some(json!({})), 200).await;
    let shown = walk.get("/collections/{collection}", "kiosks").await;
    assert!(shown["devices"][0].as_str().unwrap().starts_with("PC1 (GUID:"), "{shown}");

    assert!(walk.get("/client-settings-known", "").await.as_array().unwrap().len() >= 5);
    let body =
        json!({"name": "no outside", "values": {"EnableCloudGateway": "no"}, "collections": ["Kiosks"]});
    walk.call("POST", "/client-settings", "", Some(body), 201).await;
    let settings = walk.get("/devices/{device}/settings", "PC1").await;
    let gateway =
        settings.as_array().unwrap().iter().find(|one| one["name"] == "EnableCloudGateway").unwrap().clone();
    assert_eq!(gateway["from"], "no outside", "{gateway}");
    let change = json!({"values": {"EnableCloudGateway": "yes"}});
    walk.call("PUT", "/client-settings/{name}", "no outside", Some(change), 200).await;
    assert_eq!(walk.get("/client-settings", "").await.as_array().unwrap().len(), 2, "and the default");
    walk.call("DELETE", "/client-settings/{name}", "no outside", None, 200).await;
    walk.call("DELETE", "/collections/{collection}/devices/{device}", "Kiosks|PC1", None, 200).await;
    walk.call("DELETE", "/collections/{collection}", "Kiosks", None, 200).await;
    assert_eq!(walk.get("/collections", "").await[0]["name"], "All devices");
}

async fn walk_device(host: &Host, walk: &mut Walk) {
    let held = walk.call("POST", "/devices/{device}/hold", "PC1", Some(json!({})), 200).await;
    assert_eq!(held["approval"], "held");
    walk.call("POST", "/devices/{device}/readmit", "PC1", Some(json!({})), 409).await;
    walk.call("POST", "/devices/{device}/settle", "PC1", Some(json!({})), 409).await;
    assert_eq!(walk.get("/stranded-devices", "").await, json!([]));
    let id = walk.get("/devices/{device}", "PC1").await["client_id"].as_str().unwrap().parse().unwrap();
    host.site.confirm_registration(None, id, "", true).await.unwrap();
    let expiring = walk.get("/expiring-credentials?days=400", "").await;
    assert_eq!((&expiring[0]["name"], &expiring[0]["credential"]), (&json!("PC1"), &json!("self-prove")));
    walk.called.insert(("GET".into(), "/expiring-credentials".into()));
    walk.call("DELETE", "/devices/{device}", "PC1", None, 200).await;
}
