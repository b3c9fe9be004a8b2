//! Whether the certificate of a gateway, or of an HTTPS management point, was taken back.
//!
//! A server's chain is judged by the revocation lists of its issuers. When a list is missing, nothing
//! is sent: the handshake fails, the list is fetched from the distribution point that the chain names,
//! and the request is made again. Only a chain whose path and name already hold may name an address,
//! so that no stranger makes the device fetch anything; and only by plain HTTP, as lists are published.
//!
//! A list that cannot be had: under [`CrlCheck::Soft`] (the default) the connection goes on and the
//! warning stands in the log, in `status` and in the report to the site. So a device that was set up
//! with `/NoCRLCheck` does not fall silent when the site's setting begins to count. Under
//! [`CrlCheck::Hard`] the connection is refused. A certificate that *is* on a list is refused under both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::id::Thumbprint;
use proto::pki::{
    Crl, CrlPolicy, Distrust, IssuerId, RevocationSettings, Revocations, TrustList, TrustStore, TrustedCa,
    Usage,
};
use proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::log::line;
use crate::state::Store;

/// Largest list that a device reads, in bytes: some 200,000 serials.
const LIST_BYTES: usize = 8 * 1024 * 1024;
/// Time for one list.
const FETCH: Duration = Duration::from_secs(15);
/// Lists that one chain may need.
const LISTS: usize = 4;
/// Addresses of one certificate that are tried.
const ADDRESSES: usize = 3;
/// Time after which a list that could not be had is asked for again.
const RETRY: Duration = Duration::from_mins(30);
/// Chains that are remembered.
const CHAINS: usize = 256;

/// How strictly servers' certificates are checked for revocation: the client setting "clients check the
/// CRL for site systems".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrlCheck {
    /// Not at all. An alarm at the site.
    Off,
    /// Checked; a list that cannot be had is a warning.
    #[default]
    Soft,
    /// Checked; without a list there is no connection.
    Hard,
}

impl CrlCheck {
    /// The word in policy and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }

    /// Reads the setting: the word, or a truth as the field writes it.
    pub fn read(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "off" | "0" | "false" | "no" => Some(Self::Off),
            "soft" | "1" | "true" | "yes" => Some(Self::Soft),
            "hard" | "2" => Some(Self::Hard),
            _ => None,
        }
    }
}

/// What counts now: the bootstrap's `/NoCRLCheck` until the first client settings, then the setting.
pub fn effective(no_crl_check: bool, settings_applied: bool, setting: Option<CrlCheck>) -> CrlCheck {
    if no_crl_check && !settings_applied { CrlCheck::Off } else { setting.unwrap_or_default() }
}

/// A connection that was made although nobody knows whether the certificate was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warning {
    /// The server.
    pub host: String,
    /// What is not known, and why.
    pub text: String,
    /// Since when.
    pub since: Timestamp,
}

/// What a handshake found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing against it.
    Good,
    /// Taken back; by whom and when.
    Revoked(String),
    /// Not known, and nothing more can be done now.
    Unknown,
}

/// A chain whose lists are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    list: TrustList,
    chain: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Inner {
    check: CrlCheck,
    lists: BTreeMap<IssuerId, Arc<Revocations>>,
    /// When the lists of a chain (its leaf) were last asked for, and what that came to.
    tried: BTreeMap<Thumbprint, (Timestamp, Option<String>)>,
    wanted: Option<Wanted>,
    warnings: BTreeMap<String, Warning>,
}

/// What a device knows of revocation. Shared between its TLS verifier and whoever fetches.
#[derive(Debug, Default)]
pub(crate) struct RevocationLists(Mutex<Inner>);

impl RevocationLists {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_check(&self, check: CrlCheck) {
        let mut inner = self.inner();
        if inner.check != check {
            inner.check = check;
            inner.warnings.clear();
        }
    }

    /// Takes the lists that were kept.
    pub(crate) fn load(&self, kept: Vec<Revocations>) {
        let mut inner = self.inner();
        inner.lists.extend(kept.into_iter().map(|list| (list.issuer, Arc::new(list))));
    }

    /// Warnings that stand.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        self.inner().warnings.values().cloned().collect()
    }

    /// The chain whose lists a failed handshake asked for, once.
    pub(crate) fn take_wanted(&self) -> Option<Wanted> {
        self.inner().wanted.take()
    }

    /// Judges a chain whose path, name and dates hold. `roots` are those that vouched, where they are in
    /// hand; of the system's store only the verdict is.
    pub(crate) fn judge(&self, host: &str, chain: &[Vec<u8>], roots: &[Vec<u8>], now: Timestamp) -> Verdict {
        let mut inner = self.inner();
        if inner.check == CrlCheck::Off {
            return Verdict::Good;
        }
        let Some(leaf) = chain.first().map(|leaf| Thumbprint::of(leaf)) else { return Verdict::Unknown };
        let list = authorities(chain, roots);
        if list.authorities.is_empty() {
            let text = "the server shows no issuer besides its own certificate, so no list can be read";
            return inner.unknown(host, text.to_owned(), now);
        }
        let settings = RevocationSettings { check: true, policy: CrlPolicy::Hard, grace_seconds: 0 };
        let store = match TrustStore::new(&list, &inner.lists, settings) {
            Ok(store) => store,
            Err(error) => return inner.unknown(host, error.to_string(), now),
        };
        match store.judge(chain, Usage::Server, now) {
            Ok(_) => {
                inner.warnings.remove(host);
                Verdict::Good
            }
            Err(distrust @ Distrust::Revoked { .. }) => Verdict::Revoked(distrust.to_string()),
            Err(distrust @ (Distrust::NoCrl { .. } | Distrust::StaleCrl { .. })) => {
                let tried = inner.tried.get(&leaf).cloned();
                match tried {
                    Some((at, failure)) if is_recent(at, now) => {
                        let why = failure.map(|failure| format!(": {failure}")).unwrap_or_default();
                        inner.unknown(host, format!("{distrust}{why}"), now)
                    }
                    _ => {
                        inner.wanted = Some(Wanted { list, chain: chain.to_vec() });
                        Verdict::Unknown
                    }
                }
            }
            Err(other) => inner.unknown(host, other.to_string(), now),
        }
    }

    /// Fetches the lists of a chain, checks and keeps them.
    pub(crate) async fn fetch(
        &self,
        http: &reqwest::Client,
        wanted: Wanted,
        store: &dyn Store,
        now: Timestamp,
    ) {
        let mut failure = None;
        for (certificate, issuers) in wanted.needed().into_iter().take(LISTS) {
            let addresses: Vec<_> = Crl::distribution_points(&certificate)
                .into_iter()
                .filter(|address| address.starts_with("http://"))
                .take(ADDRESSES)
                .collect();
            if addresses.is_empty() {
                failure =
                    Some("the certificate names no distribution point that is reached by http://".to_owned());
            }
            for address in addresses {
                match self.take(http, &address, &issuers, now).await {
                    Ok(list) => {
                        line!(info, CertificateMaintenance, address, issuer = list.issuer_name, entries = list.revoked.len(), next_update = %list.next_update, "revocation list taken");
                        if let Err(error) = store.save_revocations(&list) {
                            line!(warn, CertificateMaintenance, error = %runtime::telemetry::Chain(&error), "the revocation list could not be kept");
                        }
                        self.inner().lists.insert(list.issuer, Arc::new(list));
                        break;
                    }
                    Err(why) => {
                        line!(warn, CertificateMaintenance, address, why, "revocation list not taken");
                        failure = Some(format!("{address}: {why}"));
                    }
                }
            }
        }
        let mut inner = self.inner();
        if inner.tried.len() >= CHAINS {
            inner.tried.clear();
        }
        if let Some(leaf) = wanted.chain.first() {
            inner.tried.insert(Thumbprint::of(leaf), (now, failure));
        }
    }

    async fn take(
        &self,
        http: &reqwest::Client,
        address: &str,
        issuers: &[Vec<u8>],
        now: Timestamp,
    ) -> Result<Revocations, String> {
        let bytes = download(http, address).await?;
        let crl = Crl::parse(&bytes).map_err(|error| error.to_string())?;
        let mut why = "no issuer of the chain signed it".to_owned();
        for issuer in issuers {
            let last = issuer_id(issuer).and_then(|id| self.inner().lists.get(&id).cloned());
            match crl.verify(issuer, last.as_deref(), now) {
                Ok(list) => return Ok(list),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
}

impl Inner {
    /// Nothing is known, and nothing will be: go on with a warning, or not.
    fn unknown(&mut self, host: &str, text: String, now: Timestamp) -> Verdict {
        if self.check == CrlCheck::Hard {
            return Verdict::Unknown;
        }
        if self.warnings.len() >= CHAINS {
            self.warnings.clear();
        }
        let since = self.warnings.get(host).map_or(now, |warning| warning.since);
        let warning = Warning { host: host.to_owned(), text, since };
        if self.warnings.get(host).is_none_or(|known| known.text != warning.text) {
            line!(
                warn,
                CertificateMaintenance,
                host = warning.host,
                why = warning.text,
                "it is not known whether the server's certificate was revoked; the connection goes on, because the site's setting is soft"
            );
        }
        self.warnings.insert(host.to_owned(), warning);
        Verdict::Good
    }
}

impl Wanted {
    /// Certificates that need a list, with those that may have signed it.
    fn needed(&self) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
        let is_root = |der: &Vec<u8>| self.list.authorities.iter().any(|ca| ca.root && ca.der == *der);
        let mut needed = Vec::new();
        for der in self.chain.iter().filter(|der| !is_root(der)) {
            let Ok((_, certificate)) = X509Certificate::from_der(der) else { continue };
            let issuer = certificate.issuer().as_raw();
            let issuers: Vec<_> = self
                .list
                .authorities
                .iter()
                .filter(|ca| {
                    X509Certificate::from_der(&ca.der).is_ok_and(|(_, ca)| ca.subject().as_raw() == issuer)
                })
                .map(|ca| ca.der.clone())
                .collect();
            if !issuers.is_empty() {
                needed.push((der.clone(), issuers));
            }
        }
        needed
    }
}

/// Whether a list was asked for so lately that it is not asked for again. The time of a handshake has
/// whole seconds, so it may lie before that of the question by less than one.
fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.plus(Duration::from_secs(1)) >= at && now.since(at) < RETRY
}

/// Whom the chain may lead to. The system's roots are not in hand: there the authorities that the
/// server shows stand in for them, since the system has judged the path. Of those the highest one's own
/// revocation stays unchecked.
fn authorities(chain: &[Vec<u8>], roots: &[Vec<u8>]) -> TrustList {
    let shown = chain.iter().skip(1);
    let self_signed = |der: &[u8]| {
        X509Certificate::from_der(der).is_ok_and(|(_, ca)| ca.subject().as_raw() == ca.issuer().as_raw())
    };
    let all_roots = roots.is_empty() && !shown.clone().any(|der| self_signed(der));
    let shown = shown
        .map(|der| TrustedCa { der: der.clone(), root: roots.is_empty() && (all_roots || self_signed(der)) });
    let named = roots.iter().map(|der| TrustedCa { der: der.clone(), root: true });
    TrustList { authorities: named.chain(shown).collect() }
}

fn issuer_id(der: &[u8]) -> Option<IssuerId> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(IssuerId::new(certificate.subject().as_raw(), certificate.public_key().raw))
}

async fn download(http: &reqwest::Client, address: &str) -> Result<Vec<u8>, String> {
    let failed = |error: reqwest::Error| runtime::telemetry::Chain(&error.without_url()).to_string();
    let mut response = http.get(address).timeout(FETCH).send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("it answered {}", response.status().as_u16()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if bytes.len() + chunk.len() > LIST_BYTES {
            return Err(format!("the list is larger than {LIST_BYTES} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_without_check_ends_with_the_first_settings() {
        for (no_check, applied, setting, expected) in [
            (true, false, None, CrlCheck::Off),
            (true, false, Some(CrlCheck::Hard), CrlCheck::Off),
            (true, true, None, CrlCheck::Soft),
            (true, true, Some(CrlCheck::Hard), CrlCheck::Hard),
            (false, false, None, CrlCheck::Soft),
            (false, true, Some(CrlCheck::Off), CrlCheck::Off),
        ] {
            assert_eq!(effective(no_check, applied, setting), expected);
        }
    }

    #[test]
    fn a_handshake_in_the_same_second_knows_that_the_list_was_asked_for() {
        let asked = Timestamp::from_micros(1_700_000_000_900_000);
        let whole_second = Timestamp::from_micros(1_700_000_000_000_000);
        assert!(is_recent(asked, whole_second));
        assert!(is_recent(asked, asked.plus(RETRY / 2)));
        assert!(!is_recent(asked, asked.plus(RETRY)));
        // A clock that was set back: ask again.
        assert!(!is_recent(asked.plus(RETRY), asked));
    }

    #[test]
    fn the_setting_is_read_as_word_or_truth() {
        for (text, expected) in [
            ("Hard", Some(CrlCheck::Hard)),
            ("TRUE", Some(CrlCheck::Soft)),
            ("0", Some(CrlCheck::Off)),
            ("maybe", None),
        ] {
            assert_eq!(CrlCheck::read(text), expected);
        }
    }
}
