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
mod audit;
mod bulk_token;
mod client_settings;
mod connector;
pub mod db;
mod device;
mod event;
mod gateway;
mod init;
mod key;
pub mod keys;
mod limits;
mod message;
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
mod token;

pub use alarm::Alarm;
pub use approval::{ApprovalRule, ApprovalRuleError, Decision, Evidence};
pub use audit::{Actor, AuditFault, AuditRecord, AuditVerdict, By};
pub use bulk_token::{
    BulkToken, BulkTokenApproval, BulkTokenError, BulkTokenState, NewBulkToken, NewBulkTokenText,
};
pub use connector::{Connector, ConnectorError, NewConnector};
pub use device::{Approval, Device, DeviceError, DeviceFilter, SeenVia};
pub use event::{CounterWindow, LinkParty, LinkPartyKind, StoredEvent};
pub use gateway::{Gateway, GatewayError, NewGateway};
pub use init::{InitConfig, InitError};
pub use key::{KeyError, SiteKey};
pub use name::NameError;
pub use network::{Network, NetworkError};
pub use operator::{NewOperator, Operator, OperatorError};
pub use policy::{
    Assignment, Collection, NewPolicy, Policy, PolicyBody, PolicyError, PolicyProtection, PolicySet,
    SignedSet, flags,
};
pub use registration::{ConfirmError, Confirmation, NewRegistration, Registration, RegistrationError};
pub use report::{NewReport, Report, ReportEffect, ReportSummary, Stored};
pub use role::{NewRole, Role, RoleChange, RoleError, RoleMode};
pub use setting::{SettingError, SettingView, Settings};
pub use site::{OpenError, Site, SiteConfig, SiteFacts};
pub use snapshot::{Published, SnapshotError};
pub use token::{CcmSubject, CcmToken, CcmTokenError};

use proto::id::Guid;

/// A fresh version 4 GUID.
fn random_guid() -> Guid {
    let mut bytes = [0; 16];
    runtime::id::fill(&mut bytes);
    Guid::from_random(bytes)
}
