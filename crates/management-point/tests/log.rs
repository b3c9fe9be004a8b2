//! The field's own lines, in the field's files, with the values of the run. A process of its own:
//! what is logged is decided for a whole process, and other tests log nothing.

#[path = "management_point/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other tests use the rest of it")]
mod support;

use std::fs;

use proto::token::SELF_PROVE_LIFETIME;
use runtime::Clock;
use runtime::telemetry::{ComponentSpec, Console, Format, LogConfig, parse_line, start};

use support::{Ask, Bench, NOW, Token, devices};

// One thread, so that everything the management point logs comes to this test's own log.
#[tokio::test]
async fn the_lines_of_the_field_are_written_by_the_flows_that_cause_them() {
    let folder = tempfile::tempdir().unwrap();
    let default = ComponentSpec { component: "SMS_TEST", file: "test.log", format: Format::Simple };
    let config = LogConfig {
        folder: Some(folder.path().to_owned()),
        components: management_point::log::COMPONENTS.to_vec(),
        console: Console::Off,
        ..LogConfig::new(default, Clock::manual(NOW * 1_000_000))
    };
    let (subscriber, handle) = start(config).unwrap();
    let logging = tracing::subscriber::set_default(subscriber);

    let bench = Bench::start().await;
    let [device, ..] = devices();
    let id = device.enroll(&bench).await;
    let own = device.token(&bench, id, Token::SelfProve).await;
    device.exchange(&bench, &own, Some(id)).await;
    bench.clock.advance(SELF_PROVE_LIFETIME + proto::token::CLOCK_SKEW);
    let answer = bench.send(Ask::get("/CCM_STS").bearer(&own).signed(device, Some(id), bench.now())).await;
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
        assert!(!text.contains(&own), "a token in a log");
    }
}
