//! One device: its identity, its memory, and what it says to its site.
//!
//! A [`Device`] needs no files: give it key material, a [`Store`] and a clock, and it registers,
//! confirms, asks for policy and reports. The commands and the service are thin drivers around
//! it; load tools make thousands of them with [`MemoryStore`](crate::state::MemoryStore).

mod entra;
mod error;
mod gateways;
mod message;
mod method;
mod onboarding;
mod send;
mod sts;
mod user;
mod way;

use std::fmt;
use std::sync::Arc;

use proto::id::{ClientId, Thumbprint};
use proto::identity::Method;
use proto::message::signature::{KeyError, RsaPublicKey};
use proto::time::Timestamp;
use proto::trust::SiteRoot;
use runtime::Clock;

use crate::address::{GatewayAddress, InsideAddress};
use crate::credential::sealed::Vault;
use crate::credential::source::Prompt;
use crate::credential::{ProofSetup, revocation};
use crate::identity::{Identity, IdentityError, KeyMaterial};
use crate::join::JoinStatus;
use crate::location::Inside;
use crate::network::Fingerprint;
use crate::rotation::Rotation;
use crate::state::{Failure, Registration, State, StateError, Store};
use crate::tls::TlsTrust;
use crate::token::TokenText;
use crate::transport::{Transport, TransportError};
use crate::trust::Pin;

pub use entra::EntraFailure;
pub use error::RequestError;
pub(crate) use message::read_reply;
pub(crate) use send::Outgoing;
pub use user::UserTokenError;
pub use way::Occasion;

/// Version of this client as registrations and heartbeats name it: the form of the field, ours in
/// the last places.
pub const CLIENT_VERSION: &str =
    concat!("5.00.9128.", env!("CARGO_PKG_VERSION_MINOR"), "00", env!("CARGO_PKG_VERSION_PATCH"));

/// What a device is made from.
pub struct DeviceOptions {
    /// What it remembers; [`State::new`] for a new one.
    pub state: State,
    /// Its key and certificate.
    pub key: KeyMaterial,
    /// Where it keeps its memory.
    pub store: Arc<dyn Store>,
    /// Its time.
    pub clock: Clock,
    /// Whether the system's store of roots counts besides the one in the state. Load tools turn it
    /// off: reading it takes time, and they have only one gateway.
    pub system_roots: bool,
}

/// Why a device cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Its key cannot be used.
    #[error("the device's key cannot be used")]
    Identity(#[source] IdentityError),
    /// Its certificate holds no acceptable key.
    #[error("the device's certificate cannot be used")]
    Certificate(#[source] KeyError),
    /// Sending could not be set up.
    #[error("the device cannot send")]
    Transport(#[source] TransportError),
}

/// Shows a person what to do to sign in.
pub type Prompter = Arc<dyn Fn(&Prompt) + Send + Sync>;

/// A device.
pub struct Device {
    identity: Arc<Identity>,
    public_key: RsaPublicKey,
    transport: Transport,
    state: State,
    store: Arc<dyn Store>,
    rotation: Rotation<GatewayAddress>,
    /// The network that the device is on, where somebody said so.
    network: Option<Fingerprint>,
    /// The management point inside that is in use.
    inside_rotation: Rotation<InsideAddress>,
    /// What the last look inside saw.
    inside: Inside,
    /// When `CMGFQDNs` was last looked into in this run of the program.
    hints_read: Option<Timestamp>,
    /// Held in memory only, until registration.
    bulk: Option<TokenText>,
    registrations: u32,
    /// Seals what a tenant gave.
    vault: Vault,
    /// The method that a registration under way tries; else the one that the site has last taken.
    acting: Option<Method>,
    /// The join state of the last look.
    join: Option<JoinStatus>,
    /// Who is asked to sign in, while somebody is there.
    prompter: Option<Prompter>,
}

impl Device {
    /// Makes a device ready. Sends nothing.
    pub fn new(options: DeviceOptions) -> Result<Self, DeviceError> {
        let identity = Arc::new(Identity::new(options.key).map_err(DeviceError::Identity)?);
        let public_key =
            RsaPublicKey::from_certificate(identity.certificate()).map_err(DeviceError::Certificate)?;
        let trust = TlsTrust { ca: options.state.setup.ca.as_deref(), system: options.system_roots };
        let skew = options.state.credentials.clock_offset;
        let transport = Transport::new(Arc::clone(&identity), trust, options.clock.clone(), skew)
            .map_err(DeviceError::Transport)?;
        transport.judge().revocation.load(options.store.revocations());
        let mut device = Self {
            transport,
            vault: Vault::new(identity.pkcs8()),
            identity,
            public_key,
            state: options.state,
            store: options.store,
            rotation: Rotation::default(),
            network: None,
            inside_rotation: Rotation::default(),
            inside: Inside::NotTried,
            hints_read: None,
            bulk: None,
            registrations: 0,
            acting: None,
            join: None,
            prompter: None,
        };
        device.read_local_settings();
        device.tell_judges();
        Ok(device)
    }

    /// Who is asked to sign in when a user's token is needed, while a person is at the device.
    pub fn prompt_with(&mut self, prompter: Prompter) {
        self.prompter = Some(prompter);
    }

    /// Says on which network the device is: which gateways answered is remembered for each.
    pub fn on_network(&mut self, network: Option<Fingerprint>) {
        self.network = network;
    }

    /// Tells whoever judges servers what the state says by now.
    fn tell_judges(&self) {
        let judge = self.transport.judge();
        let fingerprint = match &self.state.setup.pin {
            Pin::Fingerprint(fingerprint) => Some(*fingerprint),
            Pin::Certificate(_) | Pin::Key(_) | Pin::FirstUse => None,
        };
        judge.site.set(self.site_root().map(|root| root.der().to_vec()), fingerprint);
        judge.revocation.set_check(self.revocation_check());
    }

    /// How strictly servers are checked for revocation now.
    pub fn revocation_check(&self) -> revocation::CrlCheck {
        let settings = &self.state.policy.settings;
        revocation::effective(
            self.state.proof.no_crl_check,
            settings.version.is_some(),
            settings.revocation_check,
        )
    }

    /// What the device remembers.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes a state that another process may have written meanwhile.
    pub fn reload(&mut self, state: State) {
        self.state = state;
        self.transport.judge().skew.set(self.state.credentials.clock_offset);
        self.tell_judges();
    }

    /// Gives the bulk registration token to be shown to `CCM_STS` until the device is registered.
    /// It is never kept.
    pub fn use_bulk_token(&mut self, token: TokenText) {
        self.bulk = Some(token);
    }

    /// Takes other ways to prove the device; what is not named stays as it was.
    pub fn prove_with(&mut self, proof: &ProofSetup) -> Result<(), StateError> {
        self.state.proof = crate::setup::merged(self.state.proof.clone(), proof);
        // What was refused or not to be had may be there now.
        let credentials = &mut self.state.credentials;
        credentials.device_token_problem = None;
        credentials.user_token_problem = None;
        self.save()
    }

    /// Whether registration should go through a gateway, wherever the device is.
    pub(crate) fn prefers_gateway(&self) -> bool {
        self.bulk.is_some() && !self.gateways().is_empty()
    }

    /// Whether there is an inside that could take a request.
    pub(crate) fn knows_inside(&self) -> bool {
        !crate::place::always_internet(&self.state) && !self.inside_addresses().is_empty()
    }

    /// Counts attempts to register, for the log: from 1, anew in each run of the program.
    pub(crate) fn count_registration(&mut self) -> u32 {
        self.registrations = self.registrations.saturating_add(1);
        self.registrations
    }

    /// Its identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its id, once registered.
    pub fn client_id(&self) -> Option<ClientId> {
        self.state.registration.map(|registration| registration.client_id)
    }

    /// Its registration, or the error that says there is none.
    pub fn registered(&self) -> Result<Registration, RequestError> {
        self.state.registration.ok_or(RequestError::NotRegistered)
    }

    pub(crate) fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn save(&self) -> Result<(), StateError> {
        self.store.save(&self.state)
    }

    /// Now, by the device's clock as the site corrected it.
    pub fn now(&self) -> Timestamp {
        self.transport.now()
    }

    /// The site root, once known: pinned by certificate, or shown by the site and judged.
    pub(crate) fn site_root(&self) -> Option<SiteRoot> {
        let known = self.state.trust.root.as_ref().or(match &self.state.setup.pin {
            Pin::Certificate(der) => Some(der),
            Pin::Fingerprint(_) | Pin::Key(_) | Pin::FirstUse => None,
        });
        known.and_then(|der| SiteRoot::new(der.0.clone()).ok())
    }

    /// SHA-256 of the site root, once known.
    pub fn site_fingerprint(&self) -> Option<Thumbprint> {
        self.site_root().map(|root| Thumbprint::of(root.der()))
    }

    /// Forgets the last failure: everything went well since.
    pub fn clear_failure(&mut self) -> Result<(), StateError> {
        self.state.contact.failure = None;
        self.save()
    }

    /// Notes a failure for `status`, and keeps it.
    pub fn note_failure(&mut self, error: &(dyn std::error::Error + 'static), told: &RequestError) {
        self.state.contact.failure = Some(Failure {
            at: self.now(),
            text: runtime::telemetry::Chain(error).to_string(),
            hresult: told.hresult().to_string(),
            reason: told.reason().map(|reason| reason.to_string()),
            request_id: told.request_id().map(|id| id.to_string()),
        });
        if let Err(error) = self.save() {
            crate::log::line!(error, CcmExec, error = %runtime::telemetry::Chain(&error), "the state could not be kept");
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("identity", &self.identity)
            .field("id", &self.client_id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod credential_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod way_tests;
