//! What is refused, with which cause, and what an operator can ask about it: certificates, trust, tokens,
//! tenants.

use std::time::Duration;

use proto::identity::Method;
use serde_json::Value;

use crate::machine::{From, Machine, outcome};
use crate::openssl_pki::{Issued, Pki};
use crate::support::wait_for;
use crate::{Devices, ENDED, FROM, REVOKED, Story, TENANT, log_of, tenant, text, words_of};

pub(crate) fn certificates_are_refused_with_their_cause(story: &Story) {
    let url = format!("{}/SMS_MP/.sms_aut?MPLIST", story.lab.text("roles.0.mutual_auth"));
    let folder = story.lab.folder.path();
    let foreign = Pki::new(&folder.join("foreign-pki"), "Fabrikam");
    let revoked = story.pki.client("gone.contoso.example", REVOKED);
    let ended = story.pki.ended_client("old.contoso.example", ENDED);
    let unknown = foreign.client("pc1.fabrikam.example", 0x3001);
    let lab_revoked = Issued {
        certificate: story.lab.text("pki.revoked_cert_file").into(),
        key: story.lab.text("pki.revoked_key_file").into(),
    };
    for (what, issued, reason, cause) in [
        ("revoked", &revoked, "RG-1314", "Contoso Issuing"),
        ("revoked (the lab's)", &lab_revoked, "RG-1314", "Roamgate lab client issuing"),
        ("ended", &ended, "RG-1312", "2025-01-01"),
        ("of an unknown issuer", &unknown, "RG-1311", "Fabrikam Issuing"),
    ] {
        let (certificate, key) = (text(&issued.certificate), text(&issued.key));
        let answer = story.curl(&["--cert", &certificate, "--key", &key], &url);
        assert!(answer.contains("HTTP/1.1 401 CMGService_Invalid_Client_Certificate"), "{what}: {answer}");
        assert!(answer.contains(&format!("roamgate-reason: {reason}")), "{what}: {answer}");
        // The true cause behind the code is the operator's, by the request's id.
        let id = header(&answer, "roamgate-request-id").expect("an id");
        let (traced, _) = wait_for("the refusal is known at the site", Duration::from_secs(10), || {
            let traced = story.lab.try_operator(&["trace", &id]);
            let told = String::from_utf8_lossy(&traced.stdout).into_owned();
            told.contains(cause).then_some(told)
        });
        assert!(traced.contains(reason), "{traced}");
        // The same verdict from the site, and from files alone.
        let online = check(story, &["trust", "check", "--certificate", &certificate]);
        let (authorities, lists) =
            (text(&story.pki.authorities()), story.pki.lists(1, &[REVOKED]).map(|list| text(&list)));
        if !what.contains("lab") {
            let offline = check(
                story,
                &[
                    "trust",
                    "check",
                    "--certificate",
                    &certificate,
                    "--roots",
                    &authorities,
                    "--intermediates",
                    &authorities,
                    "--crl",
                    &lists[0],
                    "--crl",
                    &lists[1],
                ],
            );
            assert_eq!(online["reason"], offline["reason"], "{online} {offline}");
        }
        println!("a certificate that is {what}: {reason} at the gateway; {}", online["cause"]);
    }
    let good =
        check(story, &["trust", "check", "--certificate", &text(&story.outside_certificate.certificate)]);
    assert!(good["reason"].is_null(), "{good}");
}

/// A check's verdict, whatever it is.
fn check(story: &Story, words: &[&str]) -> Value {
    let output = story.lab.try_operator(words);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{words:?}: {error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn header(answer: &str, name: &str) -> Option<String> {
    let lines = answer.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .next()
}

pub(crate) fn removing_trust_names_who_would_fail(story: &Story, devices: &Devices) {
    let trusted = story.lab.operator(&["trust", "list"]);
    let names_of_failing = |authority: &str| {
        let rows = trusted.as_array().expect("rows");
        let row = rows
            .iter()
            .find(|row| row["subject"].as_str().is_some_and(|subject| subject.contains(authority)));
        let id = row.expect("an authority")["id"].as_str().expect("an id").to_owned();
        let rows = story.lab.operator(&["trust", "remove", &id, "--dry-run"]);
        println!("trust remove --dry-run of {authority}: {rows}");
        let rows = rows.as_array().expect("rows").clone();
        let mut names: Vec<_> =
            rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect();
        names.sort();
        names
    };
    let mut expected: Vec<_> =
        FROM.map(|from| devices.get(Method::Certificate, from).name.clone()).into_iter().collect();
    expected.sort();
    assert_eq!(names_of_failing("Contoso Root"), expected);
    // The devices show their issuing authority themselves: the root is what counts.
    assert_eq!(names_of_failing(&story.pki.issuer()), Vec::<String>::new());
    assert_eq!(names_of_failing("Roamgate lab client root"), ["pki-1"]);
}

pub(crate) fn tokens_are_judged_alike_everywhere(story: &Story, devices: &Devices) {
    let ccm = outcome(&devices.get(Method::SiteToken, From::Gateway).run(&["token"])).expect("a CCM token");
    let file = story.token_file("ccm", &ccm);
    let signing = story.lab.text("token_signing_certificate_file");
    let online = check(story, &["token", "check", &file]);
    let offline = check(story, &["token", "check", &file, "--keys", signing]);
    assert_eq!(online["verdict"], offline["verdict"], "{online} {offline}");
    println!("token check of a CCM token: {online}");

    let tenant = &story.tenant;
    let device = tenant.join("checked.contoso.example", &story.lab.folder.path().join(TENANT));
    let good = tenant.control.device_token(tenant.id, &device).expect("a token");
    let file = story.token_file("entra", &good);
    let online = check(story, &["token", "check", &file]);
    let keys = story.curl(&[], &format!("{}/{}/discovery/v2.0/keys", tenant.base, tenant.id));
    let keys = story.token_file("keys.json", keys.split("\r\n\r\n").nth(1).expect("a body"));
    let issuer = &tenant.issuers[0];
    let offline = check(
        story,
        &["token", "check", &file, "--keys", &keys, "--issuer", issuer, "--audience", tenant::RESOURCE],
    );
    assert_eq!(online["verdict"], offline["verdict"], "{online} {offline}");
    println!("token check of a tenant's token: {online}");
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let turned: String = signature.chars().rev().collect();
    let forged = story.token_file("forged", &format!("{head}.{turned}"));
    let online = check(story, &["token", "check", &forged]);
    let offline = check(
        story,
        &["token", "check", &forged, "--keys", &keys, "--issuer", issuer, "--audience", tenant::RESOURCE],
    );
    assert_eq!(online["verdict"], offline["verdict"], "{online} {offline}");
    assert_ne!(online["verdict"], check(story, &["token", "check", &file])["verdict"], "{online}");
}

pub(crate) fn onboarding_data_are_for_known_tenants(story: &Story) {
    let gateway = story.lab.text("gateway.url");
    let ask = |tenant: &str| {
        story.curl(&[], &format!("{gateway}/CCM_Proxy_ServerAuth/AADAuthInfo?TenantID={tenant}"))
    };
    let known = ask(&story.tenant.id.to_string());
    let body: Value = serde_json::from_str(known.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    assert_eq!(body["ClientAppId"], story.tenant.client_app.to_string(), "{known}");
    assert_eq!(body["ResourceUri"], tenant::RESOURCE, "{known}");
    let unknown = ask(&tenant::fresh().to_string());
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    let malformed = ask("x");
    assert!(malformed.starts_with("HTTP/1.1 404"), "{malformed}");
    let body = |answer: &str| answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned();
    assert_eq!(body(&unknown), body(&malformed), "an unknown tenant looks like any other wrong path");
    println!("AADAuthInfo: {known}");
}

/// Shows a tenant's token to the gateway's token service with a device's own key.
fn show_token(story: &Story, machine: &Machine, token: &str) -> String {
    let (certificate, key) = machine.tls_files();
    let bearer = format!("Authorization: Bearer {token}");
    let url = format!("{}/CCM_STS", story.lab.text("roles.0.server_auth"));
    story.curl(&["--cert", &text(&certificate), "--key", &text(&key), "-H", &bearer], &url)
}

pub(crate) fn a_tenant_that_is_switched_off_opens_nothing(story: &Story, devices: &Devices) {
    let machine = devices.get(Method::EntraDevice, From::Gateway);
    let newcomer = Machine::new(&story.lab, "late.contoso.example");
    let words = words_of(story, &newcomer, Method::EntraDevice, From::Gateway);
    let device = story.tenant.join("off.contoso.example", &newcomer.side_folder("other"));
    let token = story.tenant.control.device_token(story.tenant.id, &device).expect("a token");
    story.lab.operator(&["tenant", "disable", TENANT]);
    let (answer, took) = wait_for("the gateway refuses the tenant's tokens", Duration::from_secs(5), || {
        let answer = show_token(story, machine, &token);
        answer.contains("roamgate-reason: RG-1208").then_some(answer)
    });
    assert!(answer.starts_with("HTTP/1.1 403 CMGService_Invalid_Token"), "{answer}");
    let why = story.set_up(&newcomer, From::Gateway, &words).expect_err("the tenant is off");
    println!(
        "tenant switched off: refused after {:.1} s; a newcomer: {}",
        took.as_secs_f64(),
        why.replace('\n', " ")
    );
    story.lab.operator(&["tenant", "enable", TENANT]);
    story.wait_for_gateway();
    story.set_up(&newcomer, From::Gateway, &words).expect("the tenant is on again");
    assert_eq!(newcomer.record(&story.lab)["method"], Method::EntraDevice.to_string());
}

pub(crate) fn an_app_is_no_device_and_a_half_known_user_is_none(story: &Story) {
    let tenant = &story.tenant;
    let refused = |name: &str, flag: &str, token: &str| {
        let machine = Machine::new(&story.lab, name);
        let mut words = vec![flag.to_owned(), tenant.program(name, token)];
        words.extend(tenant.words(false));
        let why = story.set_up(&machine, From::Gateway, &words).expect_err("it proves nothing");
        (machine, why)
    };
    let app = tenant.control.app_token(tenant.id).expect("a token");
    let (machine, why) = refused("app.contoso.example", "--device-token-command", &app);
    println!("an app's own token, by the client: {}", why.replace('\n', " "));
    // The client does not even send it; here it is sent.
    let answer = show_token(story, &machine, &app);
    assert!(answer.contains("roamgate-reason: RG-"), "{answer}");
    assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
    println!("an app's own token, sent: {}", answer.lines().next().unwrap_or_default());

    let device = tenant.join("forged.contoso.example", &story.lab.folder.path().join(TENANT));
    let good = tenant.control.device_token(tenant.id, &device).expect("a token");
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    let (machine, _) = refused("forged.contoso.example", "--device-token-command", &forged);
    assert!(
        log_of(&machine, "CcmMessaging.log").contains("StatusCode=401 StatusText=CMGService_Invalid_Token")
    );

    let half = tenant.control.user_token(tenant.id, &story.hybrid, None).expect("a token");
    let (machine, why) = refused("half.contoso.example", "--user-token-command", &half);
    let log = std::fs::read_to_string(machine.state.join("logs").join("CcmMessaging.log")).expect("a log");
    assert!(log.contains("CMGConnector_Un-authorizedrequest"), "{log}");
    assert!(log.contains("RG-4007"), "{log}");
    println!("a user known to the tenant only: {}", why.replace('\n', " "));
}

/// A client that has nothing but a revoked certificate is told so and stops.
pub(crate) fn a_client_with_a_revoked_certificate_stops(story: &Story) {
    let machine = Machine::new(&story.lab, "gone.contoso.example");
    let store = machine.side_folder("certificates");
    Pki::put(&story.pki.client("gone.contoso.example", REVOKED), &store);
    let words = ["--certificate-store".to_owned(), text(&store)];
    let why = story.set_up(&machine, From::Gateway, &words).expect_err("it is revoked");
    let log = log_of(&machine, "CcmMessaging.log");
    assert!(log.contains("RG-1314"), "{why}\n{log}");
    println!("a client with a revoked certificate: {}", why.replace('\n', " "));
}
