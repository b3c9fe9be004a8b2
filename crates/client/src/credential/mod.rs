//! What a device can prove itself with besides its own registered key, and which of it is used.
//!
//! | for | module |
//! |---|---|
//! | a certificate of the organisation's PKI: choice, proof | [`pki`], [`proof`] |
//! | tokens of Entra ID or another OpenID provider | [`entra`], [`source`], [`account`] |
//! | which method is used, why, and why not a better one | [`preference`] |
//! | whether a gateway's certificate was taken back | [`revocation`] |
//! | secrets at rest, and what is remembered | [`sealed`], [`state`] |
//!
//! The device's self-signed key stays its identity for life. Everything here comes and goes on
//! top of it, so a device changes its method without becoming another device.

pub mod account;
pub mod entra;
pub mod pki;
pub mod preference;
pub mod proof;
pub mod revocation;
pub mod sealed;
pub mod source;
pub mod state;

use std::path::PathBuf;

use proto::id::Guid;
use serde::{Deserialize, Serialize};

use pki::Selection;

/// What setup was told about ways to prove the device. Everything may be missing: then the device
/// has its site token only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProofSetup {
    /// Folder with certificates of the organisation's PKI: `--certificate-store`, `CCMCERTSTORE`.
    pub certificate_store: Option<PathBuf>,
    /// File with the passphrase of PKCS#12 files in it; without one they have none.
    pub certificate_password_file: Option<PathBuf>,
    /// Which certificate of the store: `CCMCERTSEL`, `CCMCERTISSUERS`, `CCMFIRSTCERT`,
    /// `CCMCERTNAMECHECK`.
    pub selection: Selection,
    /// `/UsePKICert`: a certificate is meant to be there, and no Entra onboarding data are asked
    /// of a gateway [docs].
    pub use_pki_certificate: bool,
    /// `/NoCRLCheck`: the bootstrap checks no revocation lists. Reported, and over with the first
    /// client settings.
    pub no_crl_check: bool,
    /// Folder with the workplace-join certificate and key: `--workplace-join`.
    pub workplace_join: Option<PathBuf>,
    /// File with the output of `dsregcmd /status`: `--join-status`.
    pub join_status: Option<PathBuf>,
    /// The tenant: `AADTENANTID`.
    pub tenant: Option<Guid>,
    /// The client app: `AADCLIENTAPPID`.
    pub client_app_id: Option<String>,
    /// The resource: `AADRESOURCEURI`.
    pub resource: Option<String>,
    /// Where tokens are asked for: `--authority`.
    pub authority: Option<String>,
    /// A program that prints a device token: `--device-token-command`.
    pub device_token_command: Vec<String>,
    /// A program that prints a user token: `--user-token-command`.
    pub user_token_command: Vec<String>,
    /// Whether a user may be asked to sign in during setup: `--sign-in`.
    pub sign_in: bool,
}

impl ProofSetup {
    /// Whether the device may prove itself by a certificate.
    pub fn has_certificates(&self) -> bool {
        self.certificate_store.is_some()
    }

    /// Whether a token of a tenant may be had.
    pub fn has_entra(&self) -> bool {
        self.workplace_join.is_some()
            || self.join_status.is_some()
            || !self.device_token_command.is_empty()
            || !self.user_token_command.is_empty()
            || self.sign_in
    }
}
