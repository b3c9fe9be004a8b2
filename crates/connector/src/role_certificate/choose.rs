//! Which certificate is shown to a role: the field's filters in the field's order, with its lines [docs].

use std::sync::Arc;

use proto::pki::{Distrust, TrustStore, Usage};
use proto::time::Timestamp;
use runtime::tls::OwnCertificate;

use super::files::Candidate;

/// What came of the filters.
#[derive(Debug)]
pub(super) struct Choice {
    /// What was considered, line by line.
    pub(super) lines: Vec<String>,
    /// The one that is shown.
    pub(super) chosen: Option<Arc<OwnCertificate>>,
}

/// Chooses among certificates. `allowed`: the authorities that the role takes; it judges revocation itself.
pub(super) fn choose(candidates: &[Candidate], allowed: &TrustStore, now: Timestamp) -> Choice {
    let mut lines = Vec::new();
    let judged: Vec<_> = candidates
        .iter()
        .filter(|candidate| candidate.may_sign)
        .map(|candidate| (candidate, allowed.judge(&candidate.chain, Usage::Client, now)))
        .collect();
    lines.push(format!("Filtered cert count with digital signature: {}", judged.len()));
    let judged = filter(judged, &mut lines, "Not allowed cert", |_, verdict| {
        !matches!(verdict, Err(Distrust::UnknownIssuer { .. } | Distrust::Unreadable))
    });
    let with_allowed_root = judged.len();
    let judged = filter(judged, &mut lines, "No private key cert", |candidate, _| candidate.own.is_some());
    lines.push(format!("Filtered cert count with allowed root CA: {with_allowed_root}"));
    lines.push(format!("Filtered cert count with private key: {}", judged.len()));
    let judged = filter(judged, &mut lines, "Not client auth cert", |_, verdict| {
        !matches!(verdict, Err(Distrust::WrongUsage { .. }))
    });
    lines.push(format!("Filtered cert count with client auth: {}", judged.len()));
    let mut good = Vec::new();
    for (candidate, verdict) in judged {
        match verdict {
            Ok(_) => good.push(candidate),
            Err(distrust) => {
                lines.push(format!("Chain build failed cert: {}", candidate.sha1));
                lines.push(format!("Chain 0 status: {}", chain_status(&distrust)));
            }
        }
    }
    let lasting = good.into_iter().max_by_key(|candidate| candidate.not_after);
    Choice { lines, chosen: lasting.and_then(|candidate| candidate.own.clone()) }
}

type Verdict = Result<proto::pki::Trusted, Distrust>;

/// Keeps those that `keep` keeps, and names the others.
fn filter<'c>(
    judged: Vec<(&'c Candidate, Verdict)>,
    lines: &mut Vec<String>,
    what: &str,
    keep: impl Fn(&Candidate, &Verdict) -> bool,
) -> Vec<(&'c Candidate, Verdict)> {
    let (kept, others): (Vec<_>, Vec<_>) =
        judged.into_iter().partition(|(candidate, verdict)| keep(candidate, verdict));
    lines.extend(others.iter().map(|(candidate, _)| format!("{what}: {}", candidate.name)));
    kept
}

/// The field's word (of .NET's `X509ChainStatusFlags`) for what is wrong with a chain.
const fn chain_status(distrust: &Distrust) -> &'static str {
    match distrust {
        Distrust::Expired { .. } | Distrust::NotYetValid { .. } => "NotTimeValid",
        Distrust::UnknownIssuer { .. } | Distrust::Missing => "PartialChain",
        Distrust::Revoked { .. } => "Revoked",
        Distrust::NoCrl { .. } => "RevocationStatusUnknown",
        Distrust::StaleCrl { .. } => "OfflineRevocation",
        Distrust::WrongUsage { .. } => "NotValidForUsage",
        Distrust::Weak { .. } => "HasWeakSignature",
        Distrust::Unreadable | Distrust::Invalid { .. } => "NotSignatureValid",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proto::pki::{RevocationSettings, TrustStore};
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose};

    use super::super::files::Files;
    use super::super::testing::{Pki, now, write};
    use super::*;

    fn run(folder: &std::path::Path, allowed: &Pki) -> Choice {
        let unchecked = RevocationSettings { check: false, ..RevocationSettings::default() };
        let store = TrustStore::new(&allowed.list(), &BTreeMap::new(), unchecked).unwrap();
        let files = Files::new(vec![folder.to_owned()], vec![folder.to_owned()]);
        let found = files.read();
        assert!(found.problems.is_empty(), "{:?}", found.problems);
        choose(&found.candidates, &store, now())
    }

    #[test]
    fn the_one_that_passes_every_filter_is_chosen_and_each_filter_says_whom_it_held_back() {
        let (ours, theirs, folder) = (Pki::new("Ours"), Pki::new("Theirs"), tempfile::tempdir().unwrap());
        let write = |file, pki, with_key, change: fn(&mut CertificateParams)| {
            write(folder.path(), file, pki, with_key, change);
        };
        write("good", &ours, true, |_| {});
        write("lasting", &ours, true, |leaf| leaf.not_after = rcgen::date_time_ymd(2028, 1, 1));
        write("encrypting", &ours, true, |leaf| {
            leaf.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
        });
        write("foreign", &theirs, true, |_| {});
        write("keyless", &ours, false, |_| {});
        write("server", &ours, true, |leaf| {
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        write("ended", &ours, true, |leaf| leaf.not_after = rcgen::date_time_ymd(2026, 2, 1));
        let choice = run(folder.path(), &ours);
        let chosen = choice.chosen.unwrap();
        assert_eq!(chosen.leaf().common_name(), Some("lasting"));
        let lines: Vec<_> = choice.lines.iter().map(|line| line.split(", ").next().unwrap()).collect();
        let (ended, before) = (lines[7], &lines[..7]);
        assert_eq!(
            before,
            [
                "Filtered cert count with digital signature: 6",
                "Not allowed cert: CN=foreign",
                "No private key cert: CN=keyless",
                "Filtered cert count with allowed root CA: 5",
                "Filtered cert count with private key: 4",
                "Not client auth cert: CN=server",
                "Filtered cert count with client auth: 3",
            ]
        );
        let thumbprint = ended.strip_prefix("Chain build failed cert: ").unwrap();
        assert!(thumbprint.len() == 40 && thumbprint.bytes().all(|byte| byte.is_ascii_hexdigit()), "{ended}");
        assert_eq!(lines[8..], ["Chain 0 status: NotTimeValid"]);
    }

    #[test]
    fn of_nothing_nothing_is_chosen() {
        let (ours, folder) = (Pki::new("Ours"), tempfile::tempdir().unwrap());
        let choice = run(folder.path(), &ours);
        assert!(choice.chosen.is_none());
        assert_eq!(choice.lines[0], "Filtered cert count with digital signature: 0");
    }
}
