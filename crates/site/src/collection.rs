//! Collections: sets of devices that policy and settings are aimed at (settled point 23).
//!
//! "All devices" is there from the first schema on, and every device is in it. The others have the
//! members that an operator names.

use proto::id::ClientId;
use serde::Serialize;
use serde_json::json;

use crate::audit::By;
use crate::client_settings::refresh;
use crate::db::{self, DbError, Tx};
use crate::name::{NameError, check_name};
use crate::policy::ALL_DEVICES;
use crate::{Site, random_guid};

/// A set of devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collection {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// How many devices are in it.
    pub members: u64,
}

/// A device in a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CollectionMember {
    /// The device.
    pub device: ClientId,
    /// Its name.
    pub name: String,
}

/// An operation on collections was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum CollectionError {
    /// The name is not taken.
    #[error("collection not taken")]
    Name(#[from] NameError),
    /// The name is in use.
    #[error("there is a collection called {0:?} already")]
    Exists(String),
    /// No such collection.
    #[error("there is no collection {0:?}; `roamgate collection list` shows all")]
    Unknown(String),
    /// Every device is in it, and stays.
    #[error("every device is in \"All devices\", always")]
    AllDevices,
    /// No such device.
    #[error("there is no device {0}")]
    UnknownDevice(ClientId),
    /// The database failed.
    #[error("collections not read or written")]
    Database(#[from] DbError),
}

fn find(tx: &mut dyn Tx, text: &str) -> Result<Collection, CollectionError> {
    let unknown = || CollectionError::Unknown(text.chars().take(80).collect());
    db::collection::find(tx, text)?.ok_or_else(unknown)
}

/// One whose members an operator names.
fn find_custom(tx: &mut dyn Tx, text: &str) -> Result<Collection, CollectionError> {
    let found = find(tx, text)?;
    if found.id == ALL_DEVICES { Err(CollectionError::AllDevices) } else { Ok(found) }
}

impl Site {
    /// Makes a collection with these members.
    pub async fn add_collection(
        &self,
        by: &By,
        name: &str,
        members: Vec<ClientId>,
    ) -> Result<Collection, CollectionError> {
        check_name("collection name", name)?;
        let (id, name) = (random_guid().upper(), name.to_owned());
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                if db::collection::find(tx, &name)?.is_some() {
                    return Err(CollectionError::Exists(name.clone()));
                }
                db::collection::insert(tx, &id, &name, scribe.now)?;
                for member in &members {
                    put_member(tx, &id, *member)?;
                }
                db::policy::raise_serial(tx)?;
                let made = find(tx, &id)?;
                scribe.note(
                    tx,
                    "collection.add",
                    &id,
                    &json!({ "name": made.name, "members": made.members }),
                )?;
                Ok(made)
            })
            .await
    }

    /// Forgets a collection, by id or name. What was aimed at it is aimed at nobody. Answers what
    /// it was.
    pub async fn remove_collection(&self, by: &By, collection: &str) -> Result<Collection, CollectionError> {
        let text = collection.to_owned();
        let scribe = self.scribe(by);
        let site = self.facts().code;
        self.db()
            .write(move |tx| {
                let gone = find_custom(tx, &text)?;
                db::client_settings::forget_target(tx, &gone.id)?;
                db::policy::unassign_from(tx, &gone.id)?;
                db::collection::delete(tx, &gone.id)?;
                refresh(tx, site, scribe.now)?;
                db::policy::raise_serial(tx)?;
                let detail = json!({ "name": gone.name, "members": gone.members });
                scribe.note(tx, "collection.remove", &gone.id, &detail)?;
                Ok(gone)
            })
            .await
    }

    /// Puts a device into a collection: what is aimed at it reaches the device with its next poll.
    pub async fn add_member(
        &self,
        by: &By,
        collection: &str,
        device: ClientId,
    ) -> Result<Collection, CollectionError> {
        self.set_member(by, collection, device, true).await
    }

    /// Takes a device out of a collection.
    pub async fn remove_member(
        &self,
        by: &By,
        collection: &str,
        device: ClientId,
    ) -> Result<Collection, CollectionError> {
        self.set_member(by, collection, device, false).await
    }

    async fn set_member(
        &self,
        by: &By,
        collection: &str,
        device: ClientId,
        member: bool,
    ) -> Result<Collection, CollectionError> {
        let text = collection.to_owned();
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let found = find_custom(tx, &text)?;
                let changed = if member {
                    put_member(tx, &found.id, device)?
                } else {
                    db::collection::delete_member(tx, &found.id, device)?
                };
                if changed {
                    db::policy::raise_serial(tx)?;
                    let act = if member { "collection.add-member" } else { "collection.remove-member" };
                    scribe.note(tx, act, &found.id, &json!({ "name": found.name, "device": device }))?;
                }
                find(tx, &found.id)
            })
            .await
    }

    /// All collections by name.
    pub async fn list_collections(&self) -> Result<Vec<Collection>, DbError> {
        self.db().read(db::collection::list).await
    }

    /// A collection by id, or by name in any case.
    pub async fn find_collection(&self, collection: &str) -> Result<Collection, CollectionError> {
        let text = collection.to_owned();
        self.db().read(move |tx| find(tx, &text)).await
    }

    /// Its devices in the order of their ids, after `after`; at most 1,000.
    pub async fn list_members(
        &self,
        collection: &str,
        after: Option<ClientId>,
    ) -> Result<Vec<CollectionMember>, CollectionError> {
        let text = collection.to_owned();
        self.db()
            .read(move |tx| {
                let found = find(tx, &text)?;
                Ok(db::collection::list_members(tx, &found.id, after)?)
            })
            .await
    }

    /// The collections that a device is in, "All devices" included, by name.
    pub async fn list_collections_of(&self, device: ClientId) -> Result<Vec<Collection>, DbError> {
        self.db()
            .read(move |tx| {
                let of = db::collection::list_of(tx, device)?;
                let mut all = db::collection::list(tx)?;
                all.retain(|collection| collection.id == ALL_DEVICES || of.contains(&collection.id));
                Ok(all)
            })
            .await
    }
}

fn put_member(tx: &mut dyn Tx, collection: &str, device: ClientId) -> Result<bool, CollectionError> {
    if db::device::find(tx, device)?.is_none() {
        return Err(CollectionError::UnknownDevice(device));
    }
    Ok(db::collection::insert_member(tx, collection, device)?)
}
