//! The operator API over real TLS, on a real site.

use std::collections::HashSet;

use proto::id::ClientId;
use proto::identity::Blocked as _;
use proto::token::BULK_LIFETIME;
use runtime::tls::OwnCertificate;
use serde_json::{Value, json};
use site::By;

mod credentials;

use super::route::{ROUTES, Verb};
use crate::testing::{Caller, Host, link_certificate, self_signed};

fn method(verb: Verb) -> String {
    format!("{verb:?}").to_uppercase()
}

/// A path of the table with its open element filled in.
fn filled(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_is_closed_to_everybody_without_an_operators_key() {
    let host = Host::start().await;
    let bundle = host.add_connector("cp").await;
    let bruno = host.site.create_operator(&By::site(), "bruno").await.unwrap();
    host.site.disable_operator(&By::site(), "bruno").await.unwrap();
    let rows = host.site.list_audit(None, 1000).await.unwrap();

    let (device, _) = self_signed("device");
    let link: OwnCertificate = link_certificate(&bundle.link);
    let wrong_key = host.key.chars().rev().collect::<String>();
    let strangers = [
        ("nobody", host.caller(None, None)),
        ("a device", host.caller(None, Some(&device))),
        ("a connection point", host.caller(None, Some(&link))),
        ("a wrong key", host.caller(Some(&wrong_key), None)),
        (
            "a key that differs at its end",
            host.caller(Some(&format!("{}x", &host.key[..host.key.len() - 1])), None),
        ),
        ("a disabled operator", host.caller(Some(&bruno.key), None)),
        ("a bulk token", host.caller(Some("eyJhbGciOiJSUzI1NiJ9.e30.c2ln"), None)),
    ];
    for (who, stranger) in &strangers {
        let unknown = [("GET".to_owned(), "/nothing".to_owned()), ("PATCH".to_owned(), "/site".to_owned())];
        let table = ROUTES.iter().map(|route| (method(route.verb), filled(route.path)));
        for (method, path) in table.chain(unknown) {
            let answer = stranger.send(&method, &path, Some("{}".into())).await;
            assert_eq!(answer.status(), 401, "{who}: {method} {path}");
            assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"roamgate\"");
            assert_eq!(answer.headers()["cache-control"], "no-store");
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["error"]["code"], "unauthorized");
        }
    }
    assert_eq!(host.site.list_audit(None, 1000).await.unwrap(), rows, "nothing was changed");
}

/// Calls routes as an operator, and keeps the rows of the table that were called.
struct Walk {
    caller: Caller,
    called: HashSet<(String, String)>,
}

impl Walk {
    async fn call(
        &mut self,
        method: &str,
        template: &str,
        element: &str,
        body: Option<Value>,
        expected: u16,
    ) -> Value {
        let bare = template.split('?').next().unwrap_or_default();
        self.called.insert((method.to_owned(), bare.to_owned()));
        // Of several open elements each takes its own, separated by a bar.
        let mut elements = element.split('|');
        let filled = template.split('/').map(|part| match part.split_once('}') {
            Some((open, rest)) if open.starts_with('{') => {
                format!("{}{rest}", elements.next().unwrap_or_default())
            }
            _ => part.to_owned(),
        });
        let path = filled.collect::<Vec<_>>().join("/");
        let (status, answer) = self.caller.call(method, &path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        answer
    }

    async fn get(&mut self, template: &str, element: &str) -> Value {
        self.call("GET", template, element, None, 200).await
    }
}

#[tokio::test]
async fn every_route_does_its_work_for_an_operator() {
    let host = Host::start().await;
    let mut walk = Walk { caller: host.anna(), called: HashSet::new() };

    let site = walk.get("/site", "").await;
    assert_eq!((&site["site_code"], &site["devices"]["total"]), (&json!("RG1"), &json!(0)));
    let root = walk.get("/site/root", "").await;
    assert!(root["pem"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----\nMII"));

    assert_eq!(walk.get("/approval-rules", "").await[0]["rule"], "bulk-token");
    let rules = json!({"rules": ["network=127.0.0.0/8", "bulk-token"]});
    let rules = walk.call("PUT", "/approval-rules", "", Some(rules), 200).await;
    assert_eq!((&rules[0]["argument"], &rules[1]["rule"]), (&json!("127.0.0.0/8"), &json!("bulk-token")));
    let wrong = json!({"rules": ["network=everywhere"]});
    let refused = walk.call("PUT", "/approval-rules", "", Some(wrong), 400).await;
    assert!(refused["error"]["fix"].as_str().unwrap().contains("network=192.0.2.0/24"), "{refused}");

    // Before there is a gateway there is no line that an administrator could paste.
    let early = walk.call("POST", "/bulk-tokens", "", Some(json!({})), 201).await;
    assert!(early.get("setup_line").is_none() && early["state"] == "valid", "{early}");

    let body = json!({"name": "MP1", "internal_url": "https://mp1:8445", "gateway_traffic": true});
    let role = walk.call("POST", "/roles", "", Some(body), 201).await;
    assert_eq!((&role["ccm_hostname"], &role["mutual_auth"]), (&json!(null), &json!([])));
    let gateway =
        walk.call("POST", "/gateways", "", Some(json!({"name": "GW1", "address": "gw:8443"})), 201).await;
    assert_eq!((&gateway["host"], &gateway["bundle"]["name"]), (&json!("gw:8443"), &json!("GW1")));
    assert_eq!(walk.get("/gateways", "").await[0]["state"], "unknown");
    assert_eq!(walk.get("/gateways/{gateway}", "GW1").await["id"], gateway["id"]);
    let role_id = role["role_id"].as_str().unwrap();
    let door = format!("gw:8443/CCM_Proxy_MutualAuth/{role_id}");
    let roles = walk.get("/roles", "").await;
    assert_eq!(
        (&roles[0]["ccm_hostname"], &roles[0]["mutual_auth"][0]),
        (&json!(door), &json!(format!("https://{door}")))
    );
    let changed = walk.call(
        "PUT",
        "/roles/{id}",
        role_id,
        Some(json!({"internal_url": "https://mp2:443", "mode": null})),
        200,
    );
    assert_eq!(changed.await["internal_url"], "https://mp2:443");
    let shown = walk.get("/roles/{id}", "MP1").await;
    assert_eq!((&shown["mode"], shown["hops"].as_array().map(Vec::len)), (&json!("ehttp"), Some(4)));
    let refused = shown["combinations"].as_array().unwrap().iter().filter(|row| row["allowed"] == false);
    assert!(refused.clone().count() > 0, "user scenarios without a user");
    assert!(refused.clone().all(|row| row["why_not"].as_str().unwrap().starts_with("RG-")));

    let body = json!({"lifetime_minutes": 60, "max_uses": 5, "approval": "hold", "note": "branch"});
    let token = walk.call("POST", "/bulk-tokens", "", Some(body), 201).await;
    let text = token["token"].as_str().unwrap();
    assert_eq!(
        token["setup_line"],
        format!(
            "roamgate-client setup /mp:https://{door} CCMHOSTNAME={door} SMSSITECODE=RG1 --site-root sha256:{} /regtoken:{text}",
            site["site_root_sha256"].as_str().unwrap()
        )
    );
    let tokens = walk.get("/bulk-tokens", "").await;
    assert_eq!(tokens.as_array().unwrap().len(), 2);
    assert!(!tokens.to_string().contains(text), "the text is shown once");
    let id = token["id"].as_str().unwrap();
    let shown = walk.get("/bulk-tokens/{id}", id).await;
    assert_eq!(
        (&shown["note"], &shown["approval"], &shown["max_uses"]),
        (&json!("branch"), &json!("hold"), &json!(5))
    );
    let blocked = walk.call("POST", "/bulk-tokens/{id}/block", id, Some(json!({})), 200).await;
    assert_eq!(blocked["state"], "blocked");
    assert!(host.site.current_snapshot().is_bulk_token_blocked(id.parse().unwrap()));
    let unblocked = walk.call("POST", "/bulk-tokens/{id}/unblock", id, None, 200).await;
    assert_eq!(unblocked["state"], "valid");

    walk_devices(&host, &mut walk).await;
    credentials::walk(&host, &mut walk).await;
    walk_the_rest(&host, &mut walk).await;
    walk.called.retain(|(_, path)| !path.contains('?'));

    let table: HashSet<_> = ROUTES.iter().map(|route| (method(route.verb), route.path.to_owned())).collect();
    assert_eq!(walk.called, table, "a route of the table is not walked, or a walk leads nowhere");
}

async fn walk_devices(host: &Host, walk: &mut Walk) {
    let device = host.register("PC1").await.client_id;
    let shown = walk.get("/devices/{device}", "pc1").await;
    assert_eq!(shown["client_id"], device.to_string());
    assert_eq!(
        shown["summary"],
        "online, approved by rule network (127.0.0.0/8), method: site token, certificate: self-signed, no policy yet"
    );
    assert_eq!((&shown["last_seen_path"], &shown["policy_version"]), (&json!("intranet"), &json!(null)));
    host.heartbeat(device, "3.00").await;
    let shown = walk.get("/devices/{device}", "PC1").await;
    assert_eq!(shown["policy_version"], 3);
    assert_eq!(
        shown["summary"],
        "online, approved by rule network (127.0.0.0/8), method: site token, certificate: self-signed, policy version 3"
    );
    let element = device.to_string().replace(':', "%3A");
    let blocked =
        walk.call("POST", "/devices/{device}/block", &element, Some(json!({"note": "lost"})), 200).await;
    assert_eq!((&blocked["blocked"], &blocked["presence"]), (&json!(true), &json!("offline")));
    assert!(host.site.current_snapshot().is_device_blocked(device));
    assert_eq!(walk.get("/devices?state=blocked", "").await.as_array().unwrap().len(), 1);
    assert_eq!(walk.get("/devices?state=online", "").await, json!([]));
    walk.called.retain(|(_, path)| !path.contains('?'));
    let unblocked = walk.call("POST", "/devices/{device}/unblock", &element, Some(json!({})), 200).await;
    assert_eq!(unblocked["blocked"], false);
    let approved = walk.call("POST", "/devices/{device}/approve", "PC1", Some(json!({})), 200).await;
    assert_eq!(
        (&approved["approved_by"], &approved["approved_rule"]),
        (&json!("operator anna"), &json!(null))
    );
    assert_eq!(walk.get("/devices", "").await[0]["name"], "PC1");
}

async fn walk_the_rest(host: &Host, walk: &mut Walk) {
    let connector = walk.call("POST", "/connection-points", "", Some(json!({"name": "CP1"})), 201).await;
    let links = connector["bundle"]["site_links"].clone();
    assert_eq!(links, json!([format!("localhost:{}", host.link.port())]));
    assert_eq!(walk.get("/connection-points", "").await[0]["connected"], false);
    walk.call("DELETE", "/connection-points/{connector}", "CP1", None, 200).await;
    walk.call("DELETE", "/gateways/{gateway}", "GW1", None, 200).await;

    let keys = walk.get("/keys", "").await;
    let signing = |keys: &Value, state: &str| {
        let all = keys.as_array().unwrap().clone();
        all.into_iter().find(|key| key["purpose"] == "token-signing" && key["state"] == state).unwrap()
    };
    let (current, next) = (signing(&keys, "current"), signing(&keys, "next"));
    assert!(current["not_after"].as_str().unwrap() > "2030" && current["x5t"].is_string(), "{current}");
    let pem = walk.get("/keys/token-signing-certificate", "").await;
    assert_eq!(pem["x5t"], current["x5t"]);
    let rotated = walk.call("POST", "/keys/rotate", "", Some(json!({"purpose": "token-signing"})), 200).await;
    assert_eq!(signing(&rotated, "current")["id"], next["id"]);
    let old = current["id"].as_str().unwrap();
    let dropped = walk.call("POST", "/keys/{id}/drop", old, Some(json!({})), 200).await;
    assert_eq!(signing(&dropped, "dropped")["id"], old);

    let settings = walk.get("/settings", "").await;
    let window =
        settings.as_array().unwrap().iter().find(|one| one["name"] == "header_time_window").unwrap().clone();
    assert_eq!(
        (&window["value"], &window["unit"], &window["weakens"]),
        (&json!("3600"), &json!("seconds"), &json!(false))
    );
    let set =
        walk.call("PUT", "/settings/{name}", "header_time_window", Some(json!({"value": 7200})), 200).await;
    assert_eq!((&set["value"], &set["weakens"]), (&json!("7200"), &json!(true)));
    let alarms = walk.get("/site", "").await["alarms"].to_string();
    assert!(alarms.contains("header_time_window"), "{alarms}");

    let body = json!({
        "name": "Test: secret", "category": "Test", "flags": ["secret"], "class": "Roamgate_Lab", "properties": {"Text": "x"},
    });
    let policy = walk.call("POST", "/policies", "", Some(body), 201).await;
    assert_eq!(policy["flags"], json!(["secret", "requires-identity"]));
    assert_eq!(walk.get("/policies", "").await.as_array().unwrap().len(), 2, "and the client settings");

    let levels = walk.get("/logs", "").await;
    assert_eq!(levels["CMGService"], 1);
    let levels = walk.call("PUT", "/logs/{component}", "cmgservice", Some(json!({"level": 0})), 200).await;
    assert_eq!((&levels["CMGService"], &levels["roamgate"]), (&json!(0), &json!(1)));
    let newest = &walk.get("/audit", "").await[0];
    assert_eq!((&newest["action"], &newest["subject"]), (&json!("log-level.set"), &json!("cmgservice")));

    let request = "0190163d-8694-739b-aea5-966c26f8ad91";
    let trace = walk.get("/requests/{request}", request).await;
    assert_eq!(trace, json!({"request_id": request, "events": []}));

    let verdict = walk.call("POST", "/audit/verify", "", Some(json!({})), 200).await;
    assert_eq!(verdict["ok"], true);
    let newest = walk.get("/audit", "").await;
    assert_eq!(newest[0]["sequence"], verdict["rows"]);
}

#[tokio::test]
async fn the_audit_names_operator_and_address_of_every_act() {
    let host = Host::start().await;
    let device = host.register("PC1").await.client_id;
    let anna = host.anna();
    let before = host.site.list_audit(None, 1).await.unwrap()[0].seq;
    let acts = [
        ("POST", "/bulk-tokens".to_owned(), json!({}), "bulk-token.create"),
        ("POST", "/roles".to_owned(), json!({"name": "MP", "internal_url": "https://mp"}), "role.add"),
        ("POST", "/gateways".to_owned(), json!({"name": "GW", "address": "gw:443"}), "gateway.add"),
        ("POST", "/connection-points".to_owned(), json!({"name": "CP"}), "connection-point.add"),
        ("POST", format!("/devices/{device}/block"), json!({}), "device.block"),
        ("POST", format!("/devices/{device}/unblock"), json!({}), "device.unblock"),
        ("PUT", "/settings/enable_cmg".to_owned(), json!({"value": "off"}), "setting.set"),
        ("POST", "/keys/rotate".to_owned(), json!({"purpose": "token-signing"}), "key.rotate"),
    ];
    for (method, path, body, _) in &acts {
        let (status, answer) = anna.call(method, path, Some(body.clone())).await;
        assert!((200..300).contains(&status), "{method} {path}: {answer}");
    }
    let rows = anna.get(&format!("/audit?after={before}&limit=100")).await;
    let rows: Vec<_> = rows.as_array().unwrap().iter().rev().collect();
    assert_eq!(rows.len(), acts.len());
    for (row, (_, _, _, act)) in rows.iter().zip(&acts) {
        assert_eq!(
            (&row["action"], &row["actor"], &row["source"]),
            (&json!(act), &json!("operator:anna"), &json!("127.0.0.1"))
        );
        assert!(row["at"].as_str().unwrap().ends_with('Z'));
    }
}

#[tokio::test]
async fn a_refusal_says_what_is_wrong_and_what_to_do() {
    let host = Host::start().await;
    for name in ["PC1", "pc1"] {
        host.register(name).await;
    }
    let anna = host.anna();
    let (status, _) =
        anna.call("POST", "/roles", Some(json!({"name": "MP", "internal_url": "https://mp"}))).await;
    assert_eq!(status, 201);
    let nobody = ClientId::new(proto::id::Guid::nil());
    let too_long = u64::from(u32::try_from(BULK_LIFETIME.as_secs()).unwrap());
    let cases = [
        ("GET", "/nothing".to_owned(), None, 404, "not-found"),
        ("DELETE", "/site".to_owned(), None, 405, "invalid"),
        ("GET", "/devices/unknown".to_owned(), None, 404, "not-found"),
        ("GET", format!("/devices/{nobody}"), None, 404, "not-found"),
        ("GET", "/devices/PC1".to_owned(), None, 409, "conflict"),
        ("GET", "/devices?state=odd".to_owned(), None, 400, "invalid"),
        ("GET", "/bulk-tokens/x".to_owned(), None, 400, "invalid"),
        ("GET", "/requests/x".to_owned(), None, 400, "invalid"),
        ("POST", "/bulk-tokens".to_owned(), Some(json!({"lifetime_minutes": too_long})), 400, "invalid"),
        ("POST", "/bulk-tokens".to_owned(), Some(json!({"max_uses": 0})), 400, "invalid"),
        ("POST", "/bulk-tokens".to_owned(), Some(json!({"lifetime": 5})), 400, "invalid"),
        ("POST", "/bulk-tokens".to_owned(), Some(json!([])), 400, "invalid"),
        (
            "POST",
            "/roles".to_owned(),
            Some(json!({"name": "MP", "internal_url": "https://mp"})),
            409,
            "conflict",
        ),
        (
            "POST",
            "/roles".to_owned(),
            Some(json!({"name": "B", "internal_url": "http://u@mp/x"})),
            400,
            "invalid",
        ),
        ("PUT", "/roles/72057594037927999".to_owned(), Some(json!({})), 404, "not-found"),
        ("POST", "/gateways".to_owned(), Some(json!({"name": "", "address": "gw:443"})), 400, "invalid"),
        ("PUT", "/settings/odd".to_owned(), Some(json!({"value": "1"})), 404, "not-found"),
        ("PUT", "/settings/enable_cmg".to_owned(), Some(json!({"value": "perhaps"})), 400, "invalid"),
        ("POST", "/keys/rotate".to_owned(), Some(json!({"purpose": "root"})), 400, "invalid"),
        ("POST", format!("/keys/{}/drop", proto::id::Guid::nil()), Some(json!({})), 404, "not-found"),
        ("PUT", "/logs/odd".to_owned(), Some(json!({"level": 1})), 404, "not-found"),
        ("PUT", "/logs/roamgate".to_owned(), Some(json!({"level": 9})), 400, "invalid"),
        ("POST", "/policies".to_owned(), Some(json!({"class": "a b"})), 400, "invalid"),
    ];
    let rows = host.site.list_audit(None, 1000).await.unwrap();
    for (method, path, body, status, code) in cases {
        let (got, answer) = anna.call(method, &path, body).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{method} {path}: {answer}");
        for member in ["message", "fix"] {
            assert!(!answer["error"][member].as_str().unwrap().is_empty(), "{method} {path}: {answer}");
        }
        assert!(!answer.to_string().contains(&host.key));
    }
    let large = anna.send("POST", "/bulk-tokens", Some("x".repeat(3 * 1024 * 1024))).await;
    assert_eq!(large.status(), 413);
    assert_eq!(host.site.list_audit(None, 1000).await.unwrap(), rows, "a refused act leaves no trace");
}

#[tokio::test]
async fn answers_are_not_to_be_kept_and_carry_the_requests_id() {
    let host = Host::start().await;
    let answer = host.anna().send("GET", "/site", None).await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-type"), "application/json");
    assert!(header("roamgate-request-id").parse::<proto::id::RequestId>().is_ok());
}
