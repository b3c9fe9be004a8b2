//! Copies: one key, or one piece of hardware, used in two places at once.
//!
//! A device is held only on evidence that one device cannot produce. Roaming is none: a laptop
//! goes in and out as often as its owner likes, may be renamed, reinstalled, updated, and may have
//! its clock set. Two copies give themselves away by *going back and forth* between two things of
//! which a device has one at a time:
//!
//! | evidence | bound |
//! |---|---|
//! | two hardware ids registered in turn by one key | two returns in a day |
//! | two names registered in turn by one key | three returns in a quarter of an hour |
//! | one key heard inside and outside in turn, each side with a clock of its own, the outside's ahead | four changes in half an hour |
//! | two approved keys of one hardware id heard in turn | six changes in four hours |
//!
//! Both are held then, with the difference, until an operator settles it. Records that are not
//! approved hold nobody: a stranger who claims another's hardware changes nothing for that one (R27). Nor
//! does an approved device that *moves* to the hardware id of another: who has claimed an id for longer
//! goes on, and the newcomer to it alone is held. Only records that both began with it are held together.
//!
//! A gateway may hold requests back, and what comes late looks as if its clock were slow. So a clock that
//! is behind outside is no evidence; one that is *ahead* there is, for no delay on that road makes it so,
//! and only while each side's clock stays where it is to within a minute. What this leaves unseen, a copy
//! outside whose clock is the slower one, the other rows may still find.

mod evidence;

use std::collections::HashMap;

use proto::id::ClientId;
use proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::evidence::{FACTS, Facts, PairTrace, difference, facts_suspect, seconds};
pub(crate) use self::evidence::{Side, Trails};
use crate::Site;
use crate::audit::{By, Scribe};
use crate::contact::Seen;
use crate::db::{self, DbError, Tx};
use crate::device::{Approval, Device};
use crate::site::lock;

/// What stands as the approver of a device that is held as a copy.
const HELD_BY: &str = "clone-suspected";

/// What two copies have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloneKind {
    /// One key in two places.
    SameKey,
    /// One hardware id under two keys.
    SameHardware,
}

/// One thing in which two copies differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What: `name`, `hardware id`, `key`, `place`, `clock`.
    pub what: String,
    /// On the one side.
    pub one: String,
    /// On the other.
    pub other: String,
}

/// Why a device is held as a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneSuspicion {
    /// Since when.
    pub since: Timestamp,
    /// What the two have in common.
    pub kind: CloneKind,
    /// The other record, where there are two.
    pub other: Option<ClientId>,
    /// What was observed, in one sentence.
    pub evidence: String,
    /// In what they differ.
    pub differences: Vec<Difference>,
    /// The approval before, which settling gives back.
    approved_before: bool,
    approval_by_before: String,
}

/// Notes what a known key registers now, if it is something else than before, and holds it when
/// one device cannot have registered all that.
pub(crate) fn note_facts(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    before: &Device,
    said: &Device,
) -> Result<bool, DbError> {
    let (old, new) = (Facts::of(before, before.registered_at), Facts::of(said, scribe.now));
    if old.same(&new) {
        return Ok(false);
    }
    let subject = before.id.to_string();
    let mut trace: Vec<Facts> = db::clone::find(tx, &subject)?.unwrap_or_default();
    if trace.last().is_none_or(|last| !last.same(&old)) {
        trace.push(old);
    }
    trace.push(new);
    trace.drain(..trace.len().saturating_sub(FACTS));
    let Some(evidence) = facts_suspect(&trace, scribe.now) else {
        db::clone::put(tx, &subject, &trace, scribe.now)?;
        return Ok(false);
    };
    let differences = compare(before, said);
    hold(tx, scribe, before, CloneKind::SameKey, None, evidence, differences)
}

/// Looks at contacts on their way to the disk, and at the keys found suspect meanwhile.
pub(crate) async fn watch(site: &Site, contacts: &[(ClientId, Seen)]) -> Result<(), DbError> {
    let suspects = std::mem::take(&mut lock(&site.inner.trails).suspects);
    let heard: HashMap<_, _> = contacts.iter().map(|(id, seen)| (*id, seen.at)).collect();
    let mut pairs = site.db().read(db::device::list_rivals).await?;
    pairs.retain(|(one, other)| heard.contains_key(one) || heard.contains_key(other));
    for pair in &mut pairs {
        *pair = (pair.0.min(pair.1), pair.0.max(pair.1));
    }
    pairs.sort_unstable();
    pairs.dedup();
    if suspects.is_empty() && pairs.is_empty() {
        return Ok(());
    }
    let scribe = site.scribe(&By::site());
    site.db()
        .write(move |tx| {
            let evidence = "its key is used inside and outside in turn, each side with a clock of its own";
            for (id, differences) in &suspects {
                if let Some(device) = db::device::find(tx, *id)? {
                    let kind = CloneKind::SameKey;
                    hold(tx, &scribe, &device, kind, None, evidence, differences.clone())?;
                }
            }
            pairs.iter().try_for_each(|pair| watch_pair(tx, &scribe, *pair, &heard))
        })
        .await
}

fn watch_pair(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    (one, other): (ClientId, ClientId),
    heard: &HashMap<ClientId, Timestamp>,
) -> Result<(), DbError> {
    let subject = pair_subject(one, other);
    let mut trace: PairTrace = db::clone::find(tx, &subject)?.unwrap_or_default();
    let mut contacts: Vec<_> = [one, other].iter().filter_map(|id| Some((*heard.get(id)?, *id))).collect();
    contacts.sort_unstable();
    let suspect = contacts.into_iter().fold(false, |suspect, (at, id)| trace.note(id, at) || suspect);
    if !suspect {
        return db::clone::put(tx, &subject, &trace, scribe.now);
    }
    let (Some(one), Some(other)) = (db::device::find(tx, one)?, db::device::find(tx, other)?) else {
        return Ok(());
    };
    let kind = CloneKind::SameHardware;
    let (mut held, mut evidence) =
        (vec![(&one, &other), (&other, &one)], "two keys of one hardware id are used in turn");
    if let Some(newcomer) = newcomer_to_hardware(tx, &one, &other)? {
        held.retain(|(device, _)| device.id == newcomer);
        evidence = "it changed to the hardware id of another device, and both are used in turn";
    }
    for (device, other) in held {
        hold(tx, scribe, device, kind, Some(other.id), evidence, compare(device, other))?;
    }
    Ok(())
}

/// Which of two records of one hardware id changed to it when the other had it already. Else anybody who
/// is approved could take another out by claiming its hardware.
fn newcomer_to_hardware(tx: &mut dyn Tx, one: &Device, other: &Device) -> Result<Option<ClientId>, DbError> {
    let moved = [db::device::hardware_since(tx, one.id)?, db::device::hardware_since(tx, other.id)?];
    let since = |moved: Option<Timestamp>, device: &Device| moved.unwrap_or(device.registered_at);
    let (since_one, since_other) = (since(moved[0], one), since(moved[1], other));
    Ok(match moved {
        [Some(_), _] if since_one > since_other => Some(one.id),
        [_, Some(_)] if since_other > since_one => Some(other.id),
        _ => None,
    })
}

fn pair_subject(one: ClientId, other: ClientId) -> String {
    format!("{} {}", one.min(other), one.max(other))
}

/// In what two records, or one record before and after a registration, differ.
fn compare(one: &Device, other: &Device) -> Vec<Difference> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let seen = |device: &Device| match device.last_address {
        Some(address) => format!("{} from {address}", device.last_seen_via.as_str()),
        None => device.last_seen_via.as_str().to_owned(),
    };
    let clock = |device: &Device| device.clock_skew_ms.map(seconds).unwrap_or_default();
    [
        ("name", one.name.clone(), other.name.clone()),
        ("full name", one.fqdn.clone(), other.fqdn.clone()),
        ("hardware id", text(&one.hardware_id), text(&other.hardware_id)),
        ("key", one.signing_thumbprint.to_string(), other.signing_thumbprint.to_string()),
        ("client version", one.client_version.clone(), other.client_version.clone()),
        ("last heard", seen(one), seen(other)),
        ("clock", clock(one), clock(other)),
    ]
    .iter()
    .filter(|(_, one, other)| one != other)
    .map(|(what, one, other)| difference(what, one, other))
    .collect()
}

/// Takes the approval away until an operator settles it. Answers whether it was held just now.
fn hold(
    tx: &mut dyn Tx,
    scribe: &Scribe,
    device: &Device,
    kind: CloneKind,
    other: Option<ClientId>,
    evidence: &str,
    differences: Vec<Difference>,
) -> Result<bool, DbError> {
    if device.clone_suspicion.is_some() || device.blocked {
        return Ok(false);
    }
    let suspicion = CloneSuspicion {
        since: scribe.now,
        kind,
        other,
        evidence: evidence.to_owned(),
        differences,
        approved_before: device.approval == Approval::Approved,
        approval_by_before: device.approval_by.clone(),
    };
    // Texts and moments always have a JSON form.
    let text = serde_json::to_string(&suspicion).expect("plain data has a JSON form");
    db::device::set_clone_suspicion(tx, device.id, Some(&text))?;
    db::device::set_approval(tx, device.id, Approval::Held, HELD_BY, scribe.now)?;
    let detail = json!({
        "name": device.name, "kind": kind, "other": other, "evidence": evidence,
        "differences": suspicion.differences,
    });
    scribe.note(tx, "device.suspect-copy", device.id, &detail)?;
    Ok(true)
}

/// Gives a device that was held as a copy, and its other record, the approval that it had.
pub(crate) fn release(tx: &mut dyn Tx, scribe: &Scribe, device: &Device) -> Result<(), DbError> {
    let other = device.clone_suspicion.as_ref().and_then(|suspicion| suspicion.other);
    release_one(tx, scribe, device)?;
    let Some(other) = other else { return Ok(()) };
    db::clone::forget(tx, &pair_subject(device.id, other))?;
    match db::device::find(tx, other)? {
        Some(other) => release_one(tx, scribe, &other),
        None => Ok(()),
    }
}

fn release_one(tx: &mut dyn Tx, scribe: &Scribe, device: &Device) -> Result<(), DbError> {
    let Some(suspicion) = &device.clone_suspicion else { return Ok(()) };
    let approval = if suspicion.approved_before { Approval::Approved } else { Approval::Held };
    db::device::set_clone_suspicion(tx, device.id, None)?;
    db::device::set_approval(tx, device.id, approval, &suspicion.approval_by_before, scribe.now)?;
    db::clone::forget(tx, &device.id.to_string())
}
