//! The field's own lines, in the field's files, with the values of the run. A process of its own:
//! what is logged is decided for a whole process, and other tests log nothing.

#[path = "management_point/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other tests use the rest of it")]
mod support;

use std::fs;
use std::time::Duration;

use proto::id::Guid;
use proto::message::MessageEndpoint;
use proto::request::registration::ClientRegistrationResponse;
use runtime::Clock;
use runtime::telemetry::{ComponentSpec, Console, Format, LogConfig, LogHandle, parse_line, start};
use tempfile::TempDir;
use tracing::subscriber::DefaultGuard;

use site::NewBulkToken;
use support::tenant::Tenant;
use support::{Ask, Bench, NOW, Token, devices, operator};

/// Begins to log what this thread does, into a folder of its own.
fn log() -> (TempDir, LogHandle, DefaultGuard) {
    let folder = tempfile::tempdir().unwrap();
    let default = ComponentSpec { component: "SMS_TEST", file: "test.log", format: Format::Simple };
    let config = LogConfig {
        folder: Some(folder.path().to_owned()),
        components: management_point::log::COMPONENTS.to_vec(),
        console: Console::Off,
        ..LogConfig::new(default, Clock::manual(NOW * 1_000_000))
    };
    let (subscriber, handle) = start(config).unwrap();
    (folder, handle, tracing::subscriber::set_default(subscriber))
}

// One thread, so that everything the management point logs comes to this test's own log.
#[tokio::test]
async fn the_lines_of_the_field_are_written_by_the_flows_that_cause_them() {
    let (folder, handle, logging) = log();
    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let own = device.token(&bench, id, Token::SelfProve).await;
    device.exchange(&bench, &own, Some(id)).await;
    // An ended bulk token; a device's own, ended, would be a way back.
    let new = NewBulkToken { lifetime: Duration::from_mins(1), ..NewBulkToken::default() };
    let bulk = bench.site.create_bulk_token(&operator(), new).await.unwrap();
    bench.clock.advance(Duration::from_mins(1) + proto::token::CLOCK_SKEW);
    let answer =
        bench.send(Ask::get("/CCM_STS").bearer(&bulk.text).signed(device, Some(id), bench.now())).await;
    let expired = bench.now().minus(proto::token::CLOCK_SKEW);

    drop(logging);
    handle.flush();
    let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
    let sts = read("CCM_STS.log");
    let lines: Vec<_> = sts.lines().filter_map(parse_line).collect();
    assert!(lines.iter().all(|line| line.component.as_deref() == Some("CCM_STS")), "{sts}");
    let hierarchy = bench.site.facts().hierarchy;
    let expected = [
        "ProcessRequest - Start".to_owned(),
        format!("Incoming request URL: http://{}/CCM_STS", bench.address),
        format!(
            "Created SCCM token, token type: Device, hierarchyId: {hierarchy}, \
             userId: 00000000-0000-0000-0000-000000000000, deviceId: {id}"
        ),
        "Issued token".to_owned(),
        "Return token to client".to_owned(),
        format!(
            "Return code: 401, Description: PreAuth token validation failed, \
             System.IdentityModel.Tokens.SecurityTokenExpiredException: IDX10223: Lifetime validation failed. \
             The token is expired. ValidTo: '{}' Current time: '{}'.",
            expired.us(),
            bench.now().us()
        ),
    ];
    let mut rest = lines.iter();
    for line in &expected {
        assert!(rest.any(|logged| logged.message == *line), "missing, or out of order: {line}\n{sts}");
    }
    let registration = read("MP_RegistrationManager.log");
    assert!(
        registration.contains(&format!("Processing Registration request from Client '{id}'")),
        "{registration}"
    );
    // The refusal stands in the log under the id that the caller was told, and with the cause.
    let refusals = read("ClientAuth.log");
    let request = answer.header("roamgate-request-id").unwrap();
    assert!(refusals.contains(request) && refusals.contains("RG-4003"), "{refusals}");
    for file in fs::read_dir(folder.path()).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains(&own) && !text.contains(&bulk.text), "a token in a log");
    }
}

#[tokio::test]
async fn a_tenants_tokens_leave_the_lines_of_the_field() {
    let (folder, handle, logging) = log();
    let bench = Bench::start().await;
    bench.add_role(site::RoleMode::Ehttp).await;
    let tenant = Tenant::new(0xaa);
    tenant.onboard(&bench).await;
    let client = bench.tls(None).await;
    let [device, ..] = devices();
    let entra = Guid::from_bytes([0xd1; 16]);
    let (user, sid) = (Guid::from_bytes([0x51; 16]), "S-1-5-21-1527250992-855612568-2252598708-1604");
    let ask = async |id, text: &str| {
        let ask = Ask::get("/CCM_STS").bearer(text).signed(device, id, bench.now());
        bench.send_tls(ask, &client).await
    };
    let of_device = tenant.device_token(entra, bench.now());
    let answer = ask(None, &of_device).await;
    let grant: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let given = grant["access_token"].as_str().unwrap().to_owned();
    let body = support::registration_body(device, "PC1", bench.now(), None);
    let message = support::message::plain(&bench, MessageEndpoint::ClientRegistration, &body);
    let registration = Ask::message("/ccm_system_tokenauth/request", message).bearer(&given);
    let answer = bench.send_tls(registration.signed(device, None, bench.now()), &client).await;
    let id = ClientRegistrationResponse::parse(&answer.reply()).unwrap().client_id;
    let of_user = tenant.user_token(user, Some(sid), entra, bench.now());
    assert_eq!(ask(Some(id), &of_user).await.status, 403);
    let cloud = tenant.user_token(user, None, entra, bench.now());
    tenant.discover(&bench, &[(user, None)]).await;
    assert_eq!(ask(Some(id), &cloud).await.status, 200);

    drop(logging);
    handle.flush();
    let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap();
    let sts = read("CCM_STS.log");
    let lines: Vec<_> = sts.lines().filter_map(parse_line).collect();
    let (zeros, hierarchy, tenant) = (Guid::nil(), bench.site.facts().hierarchy, tenant.id);
    let expected = [
        "Incoming request URL: https://localhost/CCM_STS".to_owned(),
        format!(
            "Validated AAD token. TokenType: Device TenantId: {tenant} UserId: {zeros} DeviceId: {entra} \
             OnPrem_UserSid:  OnPrem_DeviceSid: "
        ),
        "TokenType is Device".to_owned(),
        format!(
            "Created SCCM token, token type: PreAuth, hierarchyId: {hierarchy}, userId: {zeros}, deviceId: GUID:{}",
            zeros.upper()
        ),
        format!(
            "Validated AAD token. TokenType: UDA TenantId: {tenant} UserId: {user} DeviceId: {entra} \
             OnPrem_UserSid: {sid} OnPrem_DeviceSid: "
        ),
        "TokenType is UDA".to_owned(),
        format!("AAD user with ID {user} and SID {sid} is not completely discovered"),
        format!(
            "Created SCCM token, token type: UDA, hierarchyId: {hierarchy}, userId: {user}, deviceId: {id}"
        ),
        "Issued token".to_owned(),
        "Return token to client".to_owned(),
    ];
    let mut rest = lines.iter();
    for line in &expected {
        assert!(rest.any(|logged| logged.message == *line), "missing, or out of order: {line}\n{sts}");
    }
    let registration = read("MP_RegistrationManager.log");
    for line in [
        format!("Registering device using AAD auth: DeviceId='{entra}', TenantId='{tenant}'"),
        format!("Processing Registration request from Client '{id}'"),
    ] {
        assert!(registration.contains(&line), "{line}\n{registration}");
    }
    assert!(read("mpcontrol.log").contains("role certificate in use"));
    for file in fs::read_dir(folder.path()).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let secrets = [&of_device, &of_user, &cloud, &given];
        assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())), "a token in a log");
    }
}
