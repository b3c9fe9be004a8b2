//! One lab, and what administrators do with it: every step as they would, against real
//! processes and real sockets, with openssl and curl as witnesses.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use support::{Lab, bytes_of, client, files_below, installed, run, wait_for};

/// The whole story in one test: a lab is dear to start, and its chapters build on each other.
#[test]
fn the_lab_does_what_it_promises() {
    let lab = Lab::start();
    the_ready_file_is_the_designs(&lab);
    a_bulk_token_is_the_samples(&lab);
    devices_are_shown_with_their_method(&lab);
    the_gateway_hosts_files_hold_no_key_of_the_site(&lab);
    nothing_is_open_to_strangers(&lab);
    a_blocked_bulk_token_is_refused_at_the_gateway(&lab);
    a_blocked_device_is_refused_on_its_open_connection(&lab);
    devices_outlive_connection_point_and_gateway(&lab);
    tokens_are_renewed_before_their_end(&lab);
    the_audit_shows_who_did_it(&lab);
    no_token_stands_in_any_log(&lab);
}

fn the_ready_file_is_the_designs(lab: &Lab) {
    for path in [
        "site_code",
        "site_id",
        "dir",
        "gateway.url",
        "gateway.host",
        "gateway.ca_file",
        "roles.0.role_id",
        "roles.0.kind",
        "roles.0.mode",
        "roles.0.internal_url",
        "roles.0.mutual_auth",
        "roles.0.server_auth",
        "operator.url",
        "operator.ca_file",
        "operator.key_file",
        "token_signing_certificate_file",
        "site_root_file",
        "devices.0.name",
        "devices.0.client_id",
        "devices.0.state_dir",
        "metrics.gateway",
    ] {
        assert!(!lab.text(path).is_empty(), "{path}");
    }
    assert_eq!(lab.text("site_code"), "RG1");
    for role in ["site", "gateway", "connection-point"] {
        assert!(lab.get("pids")[role].as_u64().is_some(), "pid of {role}");
    }
}

fn a_bulk_token_is_the_samples(lab: &Lab) {
    let made = lab.operator(&["bulk-token", "new", "--note", "story"]);
    let token = made["token"].as_str().expect("a token");
    let parts: Vec<Vec<u8>> =
        token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url")).collect();
    let header: Value = serde_json::from_slice(&parts[0]).expect("JSON");
    let claims: Value = serde_json::from_slice(&parts[1]).expect("JSON");
    let names = |value: &Value| {
        let mut names: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
        names.sort();
        names
    };
    assert_eq!(names(&header), ["alg", "typ", "x5t"]);
    let mut expected = [
        "Authority",
        "License",
        "SCCMTokenCategory",
        "TenantId",
        "Type",
        "UniqueId",
        "aud",
        "exp",
        "iss",
        "nbf",
    ];
    expected.sort_unstable();
    assert_eq!(names(&claims), expected);
    assert_eq!(claims["Type"], "BulkRegistration");
    assert_eq!(claims["SCCMTokenCategory"], "SCCMPreAuthToken");
    assert_eq!(claims["UniqueId"], made["id"]);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap(), 259_200);
    assert_eq!(parts[2].len(), 256);
    if !installed("openssl") {
        return;
    }
    // openssl, which knows nothing of ours: the signature, and the thumbprint that x5t names.
    let certificate = lab.text("token_signing_certificate_file");
    let folder = lab.folder.path();
    let key = run(Command::new("openssl").args(["x509", "-in", certificate, "-pubkey", "-noout"]), b"");
    std::fs::write(folder.join("key.pem"), key).unwrap();
    std::fs::write(folder.join("signature"), &parts[2]).unwrap();
    let (signed, _) = token.rsplit_once('.').expect("three parts");
    let verdict = run(
        Command::new("openssl")
            .args(["dgst", "-sha256", "-verify"])
            .arg(folder.join("key.pem"))
            .arg("-signature")
            .arg(folder.join("signature")),
        signed.as_bytes(),
    );
    assert_eq!(String::from_utf8_lossy(&verdict).trim(), "Verified OK");
    let print = run(
        Command::new("openssl").args(["x509", "-in", certificate, "-noout", "-fingerprint", "-sha1"]),
        b"",
    );
    let print = String::from_utf8_lossy(&print).trim().rsplit('=').next().unwrap().replace(':', "");
    let x5t = URL_SAFE_NO_PAD.decode(header["x5t"].as_str().unwrap()).unwrap();
    let x5t: Vec<String> = x5t.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(x5t.concat(), print);
    println!("openssl verified the token; SHA-1 of the certificate is its x5t, {print}");
}

fn devices_are_shown_with_their_method(lab: &Lab) {
    let shown = lab.operator(&["device", "show", "outside-1"]);
    let summary = shown["summary"].as_str().expect("a summary");
    for part in ["online", "approved by", "method: site token", "certificate: self-signed", "policy version"]
    {
        assert!(summary.contains(part), "{part:?} in {summary:?}");
    }
    assert!(!shown["method_reason"].as_str().unwrap_or_default().is_empty(), "{shown}");
    let inside = lab.operator(&["device", "show", "inside-1"]);
    assert!(inside["last_seen_path"].as_str().unwrap().contains("gateway"), "unplugged: {inside}");
    assert_eq!(inside["client_id"], lab.device("inside-1")["client_id"]);
    println!("{summary}");
}

/// Every file of the gateway's host against every private key that the site has on disk, and
/// for PEM keys other than its own two.
fn the_gateway_hosts_files_hold_no_key_of_the_site(lab: &Lab) {
    let dir = PathBuf::from(lab.text("dir"));
    let operator_key = bytes_of(Path::new(lab.text("operator.key_file")));
    let site_key = bytes_of(&dir.join("site").join("site.key"));
    assert!(!operator_key.is_empty() && !site_key.is_empty());
    let mut searched = 0;
    let mut private_keys = Vec::new();
    for path in files_below(&dir.join("gateway")) {
        let bytes = bytes_of(&path);
        searched += 1;
        for secret in [&operator_key, &site_key] {
            let secret = secret.trim_ascii();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
        }
        assert!(!bytes.starts_with(b"SQLite format"), "a database: {}", path.display());
        let text = String::from_utf8_lossy(&bytes);
        private_keys.extend(text.matches("PRIVATE KEY-----").map(|_| path.clone()));
    }
    // One key, in its bundle, at its beginning and its end.
    assert_eq!(private_keys.len(), 2, "{private_keys:?}");
    assert!(private_keys.iter().all(|path| path.ends_with("bundle.json")));
    println!("{searched} files of the gateway's host searched");
}

fn nothing_is_open_to_strangers(lab: &Lab) {
    if !installed("curl") {
        return;
    }
    for door in ["server_auth", "mutual_auth"] {
        let base = lab.text(&format!("roles.0.{door}"));
        for (method, path, expected) in [
            ("GET", "/CCM_STS", "401"),
            ("GET", "/SMS_MP/.sms_aut?MPLIST", "401"),
            ("CCM_POST", "/ccm_system_tokenauth/request", "401"),
            ("CCM_POST", "/ccm_system_windowsauth/request", "404"),
            ("CCM_POST", "/ccm_system_altauth/request", "404"),
            ("GET", "/../site", "404"),
        ] {
            let answer = curl(lab, &["-X", method, "--path-as-is"], &format!("{base}{path}"));
            assert!(answer.contains(&format!("HTTP/1.1 {expected} ")), "{method} {path}: {answer}");
            assert!(answer.contains("roamgate-reason: RG-"), "{answer}");
            assert!(answer.contains("roamgate-request-id: "), "{answer}");
        }
    }
    let answer = curl(lab, &[], &format!("{}/CCM_STS", lab.text("roles.0.mutual_auth")));
    assert!(answer.contains("401 CMGService_Invalid_Client_Certificate"), "{answer}");
}

fn curl(lab: &Lab, words: &[&str], url: &str) -> String {
    let output = Command::new("curl")
        .args(["-s", "-i", "--http1.1", "--max-time", "20", "--cacert", lab.text("gateway.ca_file")])
        .args(words)
        .arg(url)
        .output()
        .expect("curl runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn a_blocked_bulk_token_is_refused_at_the_gateway(lab: &Lab) {
    if !installed("curl") {
        return;
    }
    let made = lab.operator(&["bulk-token", "new"]);
    let token = made["token"].as_str().unwrap().to_owned();
    let url = format!("{}/CCM_STS", lab.text("roles.0.server_auth"));
    let header = format!("Authorization: Bearer {token}");
    let ask = || curl(lab, &["-H", &header], &url);
    // Without a key to bind to, the token service refuses; the gateway lets the token pass.
    assert!(!ask().contains("RG-1206"));
    lab.operator(&["bulk-token", "block", made["id"].as_str().unwrap()]);
    let (answer, _) = wait_for("the blocked bulk token is refused", Duration::from_secs(5), || {
        Some(ask()).filter(|answer| answer.contains("roamgate-reason: RG-1206"))
    });
    assert!(answer.contains("403 CMGService_Invalid_Token"), "{answer}");
    let explained = lab.operator(&["explain", "RG-1206"]);
    assert!(explained[0]["fix"].as_str().unwrap().contains("unblock"));
}

/// A kept connection that was served is refused at its next request after the block.
fn a_blocked_device_is_refused_on_its_open_connection(lab: &Lab) {
    let device = lab.device("outside-1");
    let id = device["client_id"].as_str().unwrap();
    let state = PathBuf::from(device["state_dir"].as_str().unwrap());
    lab.operator(&["device", "block", id]);
    let (refusal, _) = wait_for("the blocked device is refused", Duration::from_secs(5), || {
        let output = client(&state, &["status", "--output", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        let failure = &status["last_failure"];
        (failure["reason"] == "RG-1207").then(|| failure.clone())
    });
    let request = refusal["request_id"].as_str().expect("a request id");
    let (trace, _) = wait_for("the refusal is known at the site", Duration::from_secs(10), || {
        let output = lab.try_operator(&["trace", request]);
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).unwrap())
    });
    assert_eq!(trace["events"][0]["reason"], "RG-1207", "{trace}");
    let seen = lab.operator(&["device", "show", id])["last_seen_at"].clone();
    lab.operator(&["device", "unblock", id]);
    wait_for("the device is served again", Duration::from_secs(20), || {
        let shown = lab.operator(&["device", "show", id]);
        (shown["last_seen_at"] != seen).then_some(())
    });
}

/// Ends a server process of the lab by its id; the lab does not restart it, this test does.
fn devices_outlive_connection_point_and_gateway(lab: &Lab) {
    for role in ["connection-point", "gateway"] {
        let dir = PathBuf::from(lab.text("dir"));
        let pid = lab.get("pids")[role].as_u64().expect("a pid").to_string();
        run(Command::new("kill").args(["-9", &pid]), b"");
        let state = PathBuf::from(lab.device("outside-1")["state_dir"].as_str().unwrap());
        wait_for("the device notices", Duration::from_secs(20), || {
            let log = std::fs::read_to_string(state.join("logs").join("CcmMessaging.log")).ok()?;
            let met = if role == "gateway" { "0x8007" } else { "RG-11" };
            log.contains(met).then_some(())
        });
        let config = dir.join(role).join(format!("{role}.toml"));
        let mut again = Command::new(support::roamgate())
            .args(["serve", "--end-with-stdin", "--config"])
            .arg(&config)
            .env("ROAMGATE_CLOCK_OFFSET_FILE", dir.join("clock-offset"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the role starts again");
        let before = lab.operator(&["device", "show", "outside-1"])["last_seen_at"].clone();
        let ((), took) =
            wait_for(&format!("devices go on after {role} was killed"), Duration::from_secs(10), || {
                let shown = lab.operator(&["device", "show", "outside-1"]);
                (shown["last_seen_at"] != before).then_some(())
            });
        println!("{role}: killed, restarted, devices went on after {:.1} s", took.as_secs_f64());
        // Its input stays open until the test process ends: the role lives as long as the story.
        std::mem::forget(again.stdin.take());
        std::mem::forget(again);
    }
}

/// The lab's clock is moved: a CCM token is renewed within its day, a self-prove token within its months,
/// and the device goes on with the same identity.
fn tokens_are_renewed_before_their_end(lab: &Lab) {
    let clock = PathBuf::from(lab.text("dir")).join("clock-offset");
    let state = PathBuf::from(lab.device("outside-1")["state_dir"].as_str().unwrap());
    let expires = |token: &str| {
        let output = client(&state, &["status", "--output", "json"]);
        let status: Value = serde_json::from_slice(&output.stdout).expect("the status");
        status[token]["expires"].as_str().expect("a token").to_owned()
    };
    for (token, hours) in [("ccm_token", 9), ("self_prove_token", 24 * 60)] {
        let before = expires(token);
        std::fs::write(&clock, (hours * 3600).to_string()).expect("the clock");
        wait_for(&format!("{token} renewed after {hours} hours"), Duration::from_secs(30), || {
            (expires(token) > before).then_some(())
        });
    }
    let shown = lab.operator(&["device", "show", "outside-1"]);
    assert_eq!(shown["client_id"], lab.device("outside-1")["client_id"]);
    assert_eq!(shown["presence"], "online", "{shown}");
    // Bulk tokens made before have ended by now; the clock stays where it is.
}

fn the_audit_shows_who_did_it(lab: &Lab) {
    let rows = lab.operator(&["audit", "list", "--limit", "500"]);
    let rows = rows.as_array().expect("rows");
    let acted = |word: &str| {
        rows.iter().any(|row| {
            row["action"].as_str().unwrap().contains(word) && row["actor"].as_str().unwrap().contains("admin")
        })
    };
    assert!(acted("block"), "{rows:?}");
    let verdict = lab.operator(&["audit", "verify"]);
    assert_eq!(verdict["ok"], true, "{verdict}");
}

/// Tokens and the operator's key, against every log and the database. A token is known by its signature.
fn no_token_stands_in_any_log(lab: &Lab) {
    let dir = PathBuf::from(lab.text("dir"));
    let token = std::fs::read_to_string(dir.join("bulk-token")).expect("the lab's bulk token");
    let mut secrets = vec![("the bulk token".to_owned(), token)];
    let key = std::fs::read_to_string(lab.text("operator.key_file")).expect("the operator's key");
    secrets.push(("the operator's key".to_owned(), key));
    for path in files_below(&dir).iter().filter(|path| path.ends_with("client.json")) {
        let state: serde_json::Value = serde_json::from_slice(&bytes_of(path)).expect("a device's state");
        for kind in ["self_prove", "ccm"] {
            let text = state[kind]["text"].as_str();
            secrets.extend(text.map(|text| (format!("{kind} of {}", path.display()), text.to_owned())));
        }
    }
    let signature = |text: &str| text.trim().rsplit('.').next().unwrap_or_default().to_owned();
    let secrets: Vec<_> = secrets.iter().map(|(what, text)| (what, signature(text))).collect();
    assert!(secrets.len() > 3 && secrets.iter().all(|(_, text)| text.len() > 40), "devices hold tokens");
    let mut searched = 0;
    for path in files_below(&dir) {
        let name = path.to_string_lossy().into_owned();
        let is_log = path.extension().is_some_and(|end| ["log", "lo_", "out"].iter().any(|log| end == *log));
        if is_log || name.contains("site.db") || name.contains("gateway") || name.contains("connection-point")
        {
            searched += 1;
            let bytes = bytes_of(&path);
            for (what, secret) in &secrets {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{what} stands in {name}");
            }
        }
    }
    println!("{searched} files searched for {} secrets", secrets.len());
}
