//! How costs grow: with the devices in the database, with revocation lists, with the policy of a device.

use std::path::Path;
use std::time::{Duration, Instant};

use proto::id::ClientId;
use proto::pki::TrustedCa;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use site::{By, NewPolicy, PolicyProtection};

use super::device::{Device, Keys, now, on_all_cores};
use super::figures::{Growth, GrowthRow};
use super::host::{Files, Served};
use super::load::decimal;
use super::{Arguments, SpeedError, requests};

/// Requests of each kind at each size.
const REQUESTS: usize = 1000;
/// Validity of a revocation list that is made here.
const WEEK: Duration = Duration::from_hours(7 * 24);

/// Tokens and registrations at several numbers of devices. `enrolled` are devices of `files`; `fresh` numbers
/// those that register.
pub(super) async fn devices(
    arguments: &Arguments,
    folder: &Path,
    files: &Files,
    keys: &Keys,
    enrolled: &[(Device, ClientId, String)],
) -> Result<Growth, SpeedError> {
    let mut rows = Vec::new();
    for (round, size) in arguments.devices.iter().enumerate() {
        let at = folder.join(format!("devices-{size}"));
        let copy = files.copy(&at)?;
        copy.fill(*size)?;
        let count = REQUESTS.min(enrolled.len());
        let tokens = requests(on_all_cores(&(0..count).collect::<Vec<_>>(), |index| {
            let (device, id, token) = enrolled.get(*index).ok_or(SpeedError::Worker)?;
            Ok(keys.token_request(device, *id, token))
        })?);
        let from = 10_000_000 + round * REQUESTS;
        let newcomers = keys.devices("GROW", from..from + REQUESTS)?;
        let registrations = requests(on_all_cores(&newcomers, |device| Ok(keys.registration(device)))?);
        let mut host = copy.serve()?;
        let tokens = host.send(tokens, arguments.connections).await?;
        let registrations = host.send(registrations, arguments.connections).await?;
        drop(host);
        let mut row = GrowthRow::of(*size);
        row.served("tokens/s", "CPU ms a token", &tokens);
        row.served("registrations/s", "CPU ms a registration", &registrations);
        rows.push(row);
        remove(&at)?;
    }
    Ok(Growth { name: "devices in the database".to_owned(), rows })
}

/// A device's question for its policy, at several numbers of policies.
pub(super) async fn policies(
    arguments: &Arguments,
    folder: &Path,
    files: &Files,
    keys: &Keys,
    enrolled: &[(Device, ClientId, String)],
) -> Result<Growth, SpeedError> {
    let mut rows = Vec::new();
    for size in &arguments.policies {
        let at = folder.join(format!("policies-{size}"));
        let copy = files.copy(&at)?;
        let site = copy.open().await?;
        for number in 0..*size {
            let rules = format!(
                "<PolicyRule PolicyRuleID=\"{{bench}}\"><PolicyAction>{number}</PolicyAction></PolicyRule>"
            );
            let new = NewPolicy {
                id: None,
                category: "Bench".to_owned(),
                protection: PolicyProtection::Public,
                rules,
                collection: None,
            };
            let added = site.add_policy(&By::site(), new).await;
            added.map_err(|error| SpeedError::site("add a policy", error))?;
        }
        site.close().await;
        let count = (REQUESTS / 4).min(enrolled.len());
        let polls = requests(on_all_cores(&(0..count).collect::<Vec<_>>(), |index| {
            let (device, id, _) = enrolled.get(*index).ok_or(SpeedError::Worker)?;
            Ok(keys.policy_request(device, *id))
        })?);
        let mut host = copy.serve()?;
        let polls: Served = host.send(polls, arguments.connections).await?;
        drop(host);
        let mut row = GrowthRow::of(*size);
        row.served("polls/s", "CPU ms a poll", &polls);
        row.value(
            "KiB an answer",
            decimal(polls.outcome.bytes) / 1024.0 / decimal(polls.outcome.good.max(1)),
        );
        rows.push(row);
        remove(&at)?;
    }
    Ok(Growth { name: "policies of a device".to_owned(), rows })
}

/// What a list of several lengths costs where it is taken, and in the snapshot and the delta for gateways.
pub(super) async fn revocations(
    arguments: &Arguments,
    folder: &Path,
    files: &Files,
) -> Result<Growth, SpeedError> {
    let mut rows = Vec::new();
    for size in &arguments.crl_entries {
        let at = folder.join(format!("crl-{size}"));
        let copy = files.copy(&at)?;
        let site = copy.open().await?;
        let authority = CrlAuthority::make()?;
        let trusted = TrustedCa { der: authority.der.clone(), root: true };
        let added = site.add_trust(&By::site(), vec![trusted]).await;
        added.map_err(|error| SpeedError::site("trust an authority", error))?;
        let first = authority.list(1, *size)?;
        let mut row = GrowthRow::of(*size);
        row.value("list, MiB", decimal(first.len()) / 1_048_576.0);
        let begun = Instant::now();
        let put = site.put_crl(&By::site(), &first).await;
        put.map_err(|error| SpeedError::site("take a revocation list", error))?;
        row.milliseconds("taken, ms", begun.elapsed());
        let version = site.current_snapshot().version;
        let begun = Instant::now();
        let snapshot = site.snapshot().map_err(|error| SpeedError::site("sign a snapshot", error))?;
        row.milliseconds("snapshot, ms", begun.elapsed());
        row.value("snapshot, MiB", decimal(snapshot.payload.len()) / 1_048_576.0);
        let second = authority.list(2, size + 1)?;
        let begun = Instant::now();
        let put = site.put_crl(&By::site(), &second).await;
        put.map_err(|error| SpeedError::site("take a revocation list", error))?;
        row.milliseconds("one more taken, ms", begun.elapsed());
        let begun = Instant::now();
        let delta = site.changes_since(version).await;
        let delta = delta.map_err(|error| SpeedError::site("sign a delta", error))?;
        row.milliseconds("delta of one, ms", begun.elapsed());
        row.value("delta of one, KiB", decimal(delta.map_or(0, |delta| delta.payload.len())) / 1024.0);
        site.close().await;
        rows.push(row);
        remove(&at)?;
    }
    Ok(Growth { name: "entries of a revocation list".to_owned(), rows })
}

struct CrlAuthority {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl CrlAuthority {
    fn make() -> Result<Self, SpeedError> {
        let key = KeyPair::generate().map_err(SpeedError::key)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Bench Root");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2120, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let der = params.self_signed(&key).map_err(SpeedError::key)?.der().to_vec();
        Ok(Self { der, issuer: Issuer::new(params, key) })
    }

    fn list(&self, number: u64, entries: usize) -> Result<Vec<u8>, SpeedError> {
        let made = date_time_ymd(1970, 1, 1)
            + Duration::from_secs(u64::try_from(now().seconds() - 60).unwrap_or_default());
        let entry = |serial: usize| RevokedCertParams {
            // As long as real ones, which are random.
            serial_number: SerialNumber::from_slice(
                &(u128::MAX / 3 + serial as u128 * 0x1_0000_0001).to_be_bytes(),
            ),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: made,
            next_update: made + WEEK,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: (0..entries).map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer).map_err(SpeedError::key)?.der().to_vec())
    }
}

fn remove(folder: &Path) -> Result<(), SpeedError> {
    std::fs::remove_dir_all(folder).map_err(|source| SpeedError::file(folder, source))
}
