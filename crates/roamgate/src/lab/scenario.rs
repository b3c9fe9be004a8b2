//! The two scenarios of the field, played and shown step by step.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::device::{Device, Reach};
use super::hosts::{Hosts, wait_for};
use super::namespace::Isolation;
use super::show::Show;
use crate::exit::{Exit, Failure};
use crate::explain;

/// Scenario (a): a device inside registers without a token, gets its self-prove token, is
/// unplugged, and goes on through the gateway.
pub(crate) async fn inside_then_unplugged(
    hosts: &Hosts,
    isolation: &Isolation,
    show: &Show,
) -> Result<Device, Failure> {
    show.heading("Scenario (a): registered inside, then taken outside");
    let name = "inside-1";
    let step = show.begin("A device inside is set up: no token, no operator");
    let words = ["SMSSITECODE=RG1".to_owned()];
    let mut device = Device::start(hosts, isolation, name, Reach::Inside, &words).await?;
    step.done_with(&device.client_id);

    let step = show.begin("Registered, approved by rule, policy applied, heartbeat in");
    let record = wait_for_device(hosts, &mut device, |record| {
        record["approval"] == "approved"
            && record["policy_version"].as_u64().is_some_and(|version| version > 0)
    })
    .await?;
    step.done();
    show.note(text(&record, "summary"));

    let step = show.begin("The device holds a self-prove token and has learnt the gateway");
    let state = device.state.clone();
    let learnt = wait_for("the gateway's address", device.service(), async || {
        let status = status_of(hosts, &state).await.ok()?;
        let knows = status["gateways"].as_array().is_some_and(|list| !list.is_empty());
        (knows && status["self_prove_token"]["expires"].is_string()).then_some(status)
    })
    .await?;
    step.done_with(&format!("valid until {}", text(&learnt["self_prove_token"], "expires")));

    let step = show.begin("Unplugged: its wire to the management point is cut");
    let began = Instant::now();
    device.unplug();
    let before = record["last_seen_at"].clone();
    let record = wait_for_device(hosts, &mut device, |record| {
        record["last_seen_path"].as_str().is_some_and(|path| path.contains("gateway"))
            && record["last_seen_at"] != before
    })
    .await?;
    step.done_with(&format!(
        "its next request came by {} after {:.1} s, same identity",
        text(&record, "last_seen_path"),
        began.elapsed().as_secs_f64()
    ));
    if text(&record, "client_id") != device.client_id {
        return Err(Failure::new(Exit::Bug, "the device changed its identity on the way out"));
    }
    Ok(device)
}

/// Scenario (b): devices that can reach only the gateway are set up with a bulk token; then
/// a block takes effect.
pub(crate) async fn over_the_internet(
    hosts: &Hosts,
    isolation: &Isolation,
    show: &Show,
    count: u16,
    devices: &mut Vec<Device>,
) -> Result<(), Failure> {
    show.heading("Scenario (b): set up over the internet, with a bulk registration token");
    let step = show.begin("An operator makes a bulk registration token");
    let token = hosts
        .api
        .post(
            "bulk-tokens",
            &json!({"lifetime_minutes": 4320, "max_uses": count, "approval": "automatic", "note": "lab"}),
        )
        .await?;
    step.done_with(&format!("id {}, valid until {}", text(&token, "id"), text(&token, "valid_until")));
    let token_file = hosts.folder.join("bulk-token");
    runtime::config::private_file::write(&token_file, text(&token, "token"))
        .map_err(|error| Failure::from_error(Exit::Refused, &error))?;

    for number in 1..=count {
        let name = format!("outside-{number}");
        let title = format!("{name}, which reaches the gateway and nothing else, is set up");
        let step = show.begin(&title);
        let words = [
            format!("/mp:https://{}", hosts.ccm_hostname()),
            format!("CCMHOSTNAME={}", hosts.ccm_hostname()),
            "SMSSITECODE=RG1".to_owned(),
            "--regtoken-file".to_owned(),
            token_file.display().to_string(),
        ];
        let mut device = Device::start(hosts, isolation, &name, Reach::Gateway, &words).await?;
        step.done_with(&device.client_id);
        let step = show.begin("Token, registered, approved, policy applied, heartbeat in, online");
        let record = wait_for_device(hosts, &mut device, |record| {
            record["presence"] == "online"
                && record["policy_version"].as_u64().is_some_and(|version| version > 0)
        })
        .await?;
        step.done();
        show.note(text(&record, "summary"));
        show.note(&format!("why this method: {}", text(&record, "method_reason")));
        if number == 1 {
            visit_the_office(hosts, show, &mut device).await?;
        }
        devices.push(device);
    }
    block_and_unblock(hosts, show, devices.last_mut()).await
}

/// Scenario (c): the other two ways to prove oneself, over the internet: a certificate of the
/// organisation's PKI, and an identity in a tenant.
pub(crate) async fn by_certificate_and_tenant(
    hosts: &Hosts,
    isolation: &Isolation,
    show: &Show,
    devices: &mut Vec<Device>,
) -> Result<(), Failure> {
    show.heading("Scenario (c): proved by a certificate, and by a tenant");
    let common = [format!("CCMHOSTNAME={}", hosts.ccm_hostname()), "SMSSITECODE=RG1".to_owned()];
    let store = ["--certificate-store".to_owned(), hosts.client_pki.store.display().to_string()];
    let join = ["--workplace-join".to_owned(), hosts.tenant.workplace_join.display().to_string()];
    let authority = ["--authority".to_owned(), hosts.tenant.authority.clone()];
    let tenant = [format!("AADTENANTID={}", hosts.tenant.id)];
    let kinds = [
        ("pki-1", "certificate", Reach::Gateway, [&common[..], &store].concat()),
        ("entra-1", "Entra device", Reach::Tenant, [&common[..], &join, &authority, &tenant].concat()),
    ];
    for (name, method, reach, words) in kinds {
        let title = format!("{name} is set up: no bulk token, no operator");
        let step = show.begin(&title);
        let mut device = Device::start(hosts, isolation, name, reach, &words).await?;
        step.done_with(&device.client_id);
        let step = show.begin("Registered, approved, policy applied, heartbeat in, online");
        let record = wait_for_device(hosts, &mut device, |record| {
            record["presence"] == "online"
                && record["method"] == method
                && record["policy_version"].as_u64().is_some_and(|version| version > 0)
        })
        .await?;
        step.done();
        show.note(text(&record, "summary"));
        show.note(&format!("why this method: {}", text(&record, "method_reason")));
        devices.push(device);
    }
    Ok(())
}

/// A device from outside is plugged in inside, and leaves again: the same device all along.
async fn visit_the_office(hosts: &Hosts, show: &Show, device: &mut Device) -> Result<(), Failure> {
    for (title, path) in
        [("It comes into the office and is plugged in", "intranet"), ("It leaves again", "gateway")]
    {
        let step = show.begin(title);
        let began = Instant::now();
        if path == "intranet" {
            device.plug_in(hosts).await?;
        } else {
            device.unplug();
        }
        let record =
            wait_for_device(hosts, device, |record| text(record, "last_seen_path").contains(path)).await?;
        if text(&record, "client_id") != device.client_id {
            return Err(Failure::new(Exit::Bug, "the device changed its identity on its way"));
        }
        step.done_with(&format!("by {path} after {:.1} s, same identity", began.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// An operator blocks a device that is being managed, and takes it back.
async fn block_and_unblock(hosts: &Hosts, show: &Show, device: Option<&mut Device>) -> Result<(), Failure> {
    let Some(device) = device else { return Ok(()) };
    show.heading("A block takes effect");
    let title = format!("An operator blocks {}", device.name);
    let step = show.begin(&title);
    let began = Instant::now();
    hosts.api.post(&format!("devices/{}/block", device.client_id.replace(':', "%3A")), &json!({})).await?;
    let state = device.state.clone();
    let refused = wait_for("the refusal", device.service(), async || {
        let status = status_of(hosts, &state).await.ok()?;
        let refusal = &status["last_failure"];
        matches!(refusal["reason"].as_str(), Some("RG-1207" | "RG-3106")).then(|| refusal.clone())
    })
    .await?;
    step.done_with(&format!("refused after {:.1} s", began.elapsed().as_secs_f64()));
    let reason = text(&refused, "reason");
    show.note(&format!("the device was told {reason}, request {}", text(&refused, "request_id")));
    for explanation in explain::explain(reason) {
        show.note(&explanation.to_text());
    }
    let step = show.begin("The block is lifted, and the device goes on by itself");
    hosts.api.post(&format!("devices/{}/unblock", device.client_id.replace(':', "%3A")), &json!({})).await?;
    let seen = hosts.api.get(&format!("devices/{}", device.name)).await?["last_seen_at"].clone();
    wait_for_device(hosts, device, |record| record["last_seen_at"] != seen && record["presence"] == "online")
        .await?;
    step.done();
    Ok(())
}

async fn wait_for_device(
    hosts: &Hosts,
    device: &mut Device,
    accept: impl Fn(&Value) -> bool,
) -> Result<Value, Failure> {
    let path = format!("devices/{}", device.name);
    let what = format!("{} as it should be", device.name);
    let found = wait_for(&what, device.service(), async || {
        hosts.api.get(&path).await.ok().filter(|record| accept(record))
    })
    .await;
    match found {
        Ok(record) => Ok(record),
        Err(failure) => Err(explain_stuck(hosts, device, &path, failure).await),
    }
}

/// Adds what the site and the device know to "nothing after so many seconds".
async fn explain_stuck(hosts: &Hosts, device: &Device, path: &str, failure: Failure) -> Failure {
    let record = hosts.api.get(path).await.unwrap_or_default();
    let log = device.log("CcmMessaging.log");
    let tail: Vec<_> = log.lines().rev().take(5).collect();
    let tail: Vec<_> = tail.into_iter().rev().collect();
    let message = format!("{failure}\nThe site knows: {record}\nThe device logged:\n{}", tail.join("\n"));
    Failure::new(failure.exit, message).help(failure.help)
}

/// What `roamgate client status` says of a device.
async fn status_of(hosts: &Hosts, state: &PathBuf) -> Result<Value, Failure> {
    let mut command = std::process::Command::new(&hosts.roamgate);
    command.args(["client", "status", "--output", "json", "--state"]).arg(state);
    let text = super::child::run_to_end("status", command, std::time::Duration::from_secs(20)).await?;
    serde_json::from_str(&text).map_err(|error| Failure::from_error(Exit::Bug, &error))
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}
