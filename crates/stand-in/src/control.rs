//! What tests and the lab change while a stand-in serves.

use std::sync::Arc;

use proto::id::Guid;
use serde_json::Value;

use crate::claims::{Subject, claims};
use crate::config::{DeviceSeed, UserSeed};
use crate::device_code::{Decision, decide, waiting};
use crate::fault::{Fault, Faults, Part};
use crate::keys::KeyError;
use crate::state::{Shared, Tenant};
use crate::token;

/// No tenant of the stand-in has this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stand-in has no tenant {0}")]
pub struct UnknownTenant(pub Guid);

/// A sign-in was not decided.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApproveError {
    /// No such tenant.
    #[error(transparent)]
    Tenant(#[from] UnknownTenant),
    /// No sign-in waits with this code.
    #[error("no sign-in waits with the code {0:?}")]
    Code(String),
    /// No user has this principal name.
    #[error("no user is called {0:?}")]
    User(String),
}

/// Requests that arrived, failed ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// For a discovery document.
    pub discovery: u64,
    /// For a key set.
    pub keys: u64,
    /// For tokens and sign-in.
    pub token: u64,
    /// For users and devices.
    pub graph: u64,
}

/// The handle. Cheap to clone; works before, while and after the stand-in runs.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Control").field(&self.shared.base).finish()
    }
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Lets a part fail until [`Control::heal`]. One fault at a time.
    pub fn fail(&self, part: Part, fault: Fault) {
        self.shared.set_faults(Faults::new(part, fault));
    }

    /// Ends the fault.
    pub fn heal(&self) {
        self.shared.set_faults(Faults::default());
    }

    /// How often each part was asked.
    pub fn counts(&self) -> Counts {
        Counts {
            discovery: self.shared.counted(Part::Discovery),
            keys: self.shared.counted(Part::Keys),
            token: self.shared.counted(Part::Token),
            graph: self.shared.counted(Part::Graph),
        }
    }

    /// The next key, published already, signs from now on; the old one stays published.
    pub fn rotate_keys(&self, tenant: Guid) -> Result<(), RotateError> {
        Ok(self.with(tenant, |tenant| tenant.keys.rotate())??)
    }

    /// All keys are replaced by such as nobody has seen.
    pub fn replace_keys(&self, tenant: Guid) -> Result<(), RotateError> {
        Ok(self.with(tenant, |tenant| tenant.keys.replace())??)
    }

    /// Retired keys are published no longer.
    pub fn drop_retired_keys(&self, tenant: Guid) -> Result<(), UnknownTenant> {
        self.with(tenant, |tenant| tenant.keys.drop_retired())
    }

    /// Kids as published: the current one, the next one, retired ones.
    pub fn kids(&self, tenant: Guid) -> Result<Vec<String>, UnknownTenant> {
        self.with(tenant, |tenant| tenant.keys.kids())
    }

    /// Adds a user or changes one.
    pub fn put_user(&self, tenant: Guid, user: UserSeed) -> Result<(), UnknownTenant> {
        self.with(tenant, |tenant| tenant.users.put(user.id, user))
    }

    /// Removes a user; `false` when there was none.
    pub fn remove_user(&self, tenant: Guid, user: Guid) -> Result<bool, UnknownTenant> {
        self.with(tenant, |tenant| tenant.users.remove(user))
    }

    /// Adds a device or changes one.
    pub fn put_device(&self, tenant: Guid, device: DeviceSeed) -> Result<(), UnknownTenant> {
        self.with(tenant, |tenant| tenant.devices.put(device.object, device))
    }

    /// Removes the device with this device id; `false` when there was none.
    pub fn remove_device(&self, tenant: Guid, device: Guid) -> Result<bool, UnknownTenant> {
        self.with(tenant, |tenant| {
            let object = tenant.device(device).map(|device| device.object);
            object.is_some_and(|object| tenant.devices.remove(object))
        })
    }

    /// The next so many requests for users or devices are answered 429, to be repeated after so
    /// many seconds.
    pub fn throttle(&self, tenant: Guid, requests: u32, seconds: u64) -> Result<(), UnknownTenant> {
        self.with(tenant, |tenant| tenant.mood.throttled = (requests, seconds))
    }

    /// Whether somebody consented to the discovery app's permission. From the start: yes.
    pub fn consent(&self, tenant: Guid, given: bool) -> Result<(), UnknownTenant> {
        self.with(tenant, |tenant| tenant.mood.without_consent = !given)
    }

    /// The next question what changed is refused with `resyncRequired`.
    pub fn forget_changes(&self, tenant: Guid) -> Result<(), UnknownTenant> {
        self.with(tenant, |tenant| tenant.mood.resync = true)
    }

    /// Codes of sign-ins that wait for a user.
    pub fn waiting_codes(&self, tenant: Guid) -> Result<Vec<String>, UnknownTenant> {
        let now = self.shared.now();
        self.with(tenant, |tenant| waiting(tenant, now))
    }

    /// Signs a user in for the device that shows this code.
    pub fn approve(&self, tenant: Guid, code: &str, upn: &str) -> Result<(), ApproveError> {
        let unknown = || ApproveError::User(upn.to_owned());
        let user =
            self.with(tenant, |tenant| tenant.user_named(upn).map(|user| user.id))?.ok_or_else(unknown)?;
        self.decide(tenant, code, Decision::Approved(user))
    }

    /// Declines the sign-in with this code.
    pub fn decline(&self, tenant: Guid, code: &str) -> Result<(), ApproveError> {
        self.decide(tenant, code, Decision::Denied)
    }

    /// A device's token, without asking for its proof.
    pub fn device_token(&self, tenant: Guid, device: &DeviceSeed) -> Result<String, UnknownTenant> {
        self.sign(tenant, Subject::Device(device))
    }

    /// A user's token, on a device or on none.
    pub fn user_token(
        &self,
        tenant: Guid,
        user: &UserSeed,
        device: Option<Guid>,
    ) -> Result<String, UnknownTenant> {
        self.sign(tenant, Subject::User { user, device })
    }

    /// An app's own token for the server app.
    pub fn app_token(&self, tenant: Guid) -> Result<String, UnknownTenant> {
        let app = self.with(tenant, |tenant| tenant.config.discovery_app)?;
        self.sign(tenant, Subject::App(app))
    }

    /// The claims that a device's token would have: the raw material of wrong ones.
    pub fn device_claims(&self, tenant: Guid, device: &DeviceSeed) -> Result<Value, UnknownTenant> {
        let now = self.shared.now();
        self.with(tenant, |tenant| claims(&tenant.config, &self.shared.base, Subject::Device(device), now))
    }

    /// Signs any claims with the tenant's current key.
    pub fn sign_claims(&self, tenant: Guid, claims: &Value) -> Result<String, UnknownTenant> {
        self.with(tenant, |tenant| tenant.keys.current().sign(claims))
    }

    fn sign(&self, tenant: Guid, subject: Subject<'_>) -> Result<String, UnknownTenant> {
        let now = self.shared.now();
        self.with(tenant, |tenant| token::sign(tenant, &self.shared.base, subject, now))
    }

    fn decide(&self, tenant: Guid, code: &str, decision: Decision) -> Result<(), ApproveError> {
        let now = self.shared.now();
        let decided = self.with(tenant, |tenant| decide(tenant, code, decision, now))?;
        if decided { Ok(()) } else { Err(ApproveError::Code(code.to_owned())) }
    }

    fn with<R>(&self, tenant: Guid, work: impl FnOnce(&mut Tenant) -> R) -> Result<R, UnknownTenant> {
        self.shared.tenant(tenant, work).ok_or(UnknownTenant(tenant))
    }
}

/// Keys were not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// No such tenant.
    #[error(transparent)]
    Tenant(#[from] UnknownTenant),
    /// No new key.
    #[error("no new key")]
    Key(#[from] KeyError),
}
