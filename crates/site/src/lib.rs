//! The site: sole owner of the database and of the signing keys.
//!
//! [`Site`] is the handle. Each operation is one method named verb and noun, in the file of its
//! noun; its SQL is in the file of the same name under `db`. A write is one transaction, its audit
//! record included, and is answered when it is on disk.
//!
//! ```text
//! management point, operator API, site link ──► Site::register_client, Site::block_device, …
//!                                                 decide (pure) ─► one transaction ─► audit row
//!                                                                                  └► snapshot change
//! ```

mod alarm;
mod approval;
mod assignment;
mod audit;
mod authority_file;
mod block;
mod bulk_token;
mod client_settings;
mod clone;
mod collection;
mod confirmation;
mod connector;
mod contact;
mod crl;
pub mod db;
mod device;
mod directory;
mod discovery;
mod event;
mod expiry;
mod forecast;
mod gateway;
mod init;
mod key;
pub mod keys;
mod limits;
mod message;
mod method;
mod name;
mod network;
mod operator;
mod policy;
mod registration;
mod report;
mod role;
mod setting;
mod site;
mod snapshot;
mod stranded;
mod sync;
mod tenant;
mod tenant_key;
mod token;
mod trust;
mod user;
mod watch;

pub use alarm::Alarm;
pub use approval::{
    ApprovalRule, ApprovalRuleError, Decision, Evidence, ExpectedDevice, ExpectedDeviceError,
    NewExpectedDevice,
};
pub use assignment::{Assignment, PolicySet, SignedSet, UserRef, UserTarget};
pub use audit::{Actor, AuditFault, AuditRecord, AuditVerdict, By};
pub use authority_file::{ReadAuthoritiesError, read_authorities};
pub use bulk_token::{
    BulkToken, BulkTokenApproval, BulkTokenError, BulkTokenState, NewBulkToken, NewBulkTokenText,
};
pub use client_settings::{
    ClientSettings, ClientSettingsChange, ClientSettingsError, KnownClientSetting, NewClientSettings,
    Resultant, client_setting_names, known_client_settings,
};
pub use clone::{CloneKind, CloneSuspicion, Difference};
pub use collection::{Collection, CollectionError, CollectionMember};
pub use confirmation::{ConfirmError, Confirmation, RecoverError};
pub use connector::{Connector, ConnectorError, NewConnector};
pub use contact::Contact;
pub use crl::{CrlSource, CrlState, PutCrlError, SiteCrlError};
pub use device::{Approval, CLOCK_OFFSET_FACT, Device, DeviceError, DeviceFilter, DeviceMark, SeenVia};
pub use directory::{Directory, DirectoryError, NewDirectory};
pub use event::{CounterWindow, LinkParty, LinkPartyKind, StoredEvent};
pub use expiry::{CredentialKind, ExpiringCredential};
pub use forecast::SiteCredential;
pub use gateway::{Acknowledgements, Gateway, GatewayError, NewGateway};
pub use init::{InitConfig, InitError};
pub use key::{KeyError, SiteKey};
pub use method::{Credentials, DeviceEntra, PkiCredential, RefusedMethod};
pub use name::NameError;
pub use network::{Network, NetworkError};
pub use operator::{NewOperator, Operator, OperatorError};
pub use policy::{NewPolicy, Policy, PolicyBody, PolicyError, PolicyProtection, flags};
pub use registration::{NewRegistration, Registration, RegistrationError};
pub use report::{NewReport, Report, ReportEffect, ReportSummary, Stored};
pub use role::{NewRole, Role, RoleChange, RoleError, RoleMode};
pub use setting::{SettingError, SettingView, Settings};
pub use site::{OpenError, Site, SiteConfig, SiteFacts};
pub use snapshot::{Published, SnapshotError};
pub use stranded::{Knock, Stranded};
pub use sync::{DueSync, FoundDevice, FoundUser, SyncEnd, SyncError, SyncId, SyncSource, SyncState};
pub use tenant::{NewTenant, Tenant, TenantError, TenantPart};
pub use tenant_key::WantedKeys;
pub use token::{CcmSubject, CcmToken, CcmTokenError};
pub use trust::{Authority, TrustError};
pub use user::{JudgeUserError, Missing, Sighting, UnsyncedUnit, User, UserFilter, UserGap};
pub use watch::{NotWritable, SiteCounts};

use proto::id::Guid;

/// A fresh version 4 GUID.
fn random_guid() -> Guid {
    let mut bytes = [0; 16];
    runtime::id::fill(&mut bytes);
    Guid::from_random(bytes)
}
