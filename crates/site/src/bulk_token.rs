//! Bulk registration tokens: made by an operator, used by many devices, blocked by id.
//!
//! Their text is shown once and never stored (R18): the site keeps id, life and bounds, and one
//! row for each key that registered with it.

use std::time::Duration;

use proto::id::Guid;
use proto::reason::Reason;
use proto::snapshot::Change;
use proto::time::Timestamp;
use proto::token::{BULK_LIFETIME, BULK_LIFETIME_MAX, BULK_LIFETIME_MIN, Token, TokenClass};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::audit::By;
use crate::db::{self, DbError};
use crate::keys::RingError;
use crate::name::{NameError, check_text};
use crate::{Site, random_guid, snapshot};

/// What becomes of a device that registers with the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BulkTokenApproval {
    /// Approved at once.
    #[default]
    Automatic,
    /// Held until an operator approves it.
    Hold,
}

impl BulkTokenApproval {
    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Hold => "hold",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Automatic, Self::Hold].into_iter().find(|approval| approval.as_str() == word)
    }
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewBulkToken {
    /// One minute to seven days.
    pub lifetime: Duration,
    /// Devices that may register with it; `None` means any number, as in the field.
    pub max_uses: Option<u32>,
    /// What becomes of them.
    pub approval: BulkTokenApproval,
    /// What the operator writes beside it.
    pub note: String,
}

impl Default for NewBulkToken {
    fn default() -> Self {
        Self {
            lifetime: BULK_LIFETIME,
            max_uses: None,
            approval: BulkTokenApproval::Automatic,
            note: String::new(),
        }
    }
}

/// A token just made. Its text is nowhere else.
#[derive(Clone)]
pub struct NewBulkTokenText {
    /// What the site keeps of it.
    pub token: BulkToken,
    /// The JWT.
    pub text: String,
}

impl std::fmt::Debug for NewBulkTokenText {
    /// Without the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewBulkTokenText").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Whether a token still lets devices in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BulkTokenState {
    /// It does.
    Active,
    /// An operator blocked it.
    Blocked,
    /// Its life is over.
    Expired,
    /// As many devices as it allows have registered.
    UsedUp,
}

/// What the site knows of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BulkToken {
    /// `UniqueId` inside it: the handle.
    pub id: Guid,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How many devices it allows.
    pub max_uses: Option<u32>,
    /// How many keys have registered with it.
    pub uses: u32,
    /// What becomes of them.
    pub approval: BulkTokenApproval,
    /// The operator's note.
    pub note: String,
    /// Who made it.
    pub created_by: String,
    /// Whether it is blocked.
    pub blocked: bool,
}

impl BulkToken {
    /// Its state at a moment; a block shows before anything else.
    pub fn state(&self, now: Timestamp) -> BulkTokenState {
        if self.blocked {
            BulkTokenState::Blocked
        } else if now >= self.expires_at {
            BulkTokenState::Expired
        } else if self.max_uses.is_some_and(|most| self.uses >= most) {
            BulkTokenState::UsedUp
        } else {
            BulkTokenState::Active
        }
    }

    /// Whether one more device may use it; a key that has used it before always may, while it lives.
    pub(crate) fn admit(&self, used_before: bool, now: Timestamp) -> Result<(), Reason> {
        match self.state(now) {
            BulkTokenState::Blocked => Err(Reason::BulkTokenBlocked),
            BulkTokenState::Expired => Err(Reason::TokenExpired),
            BulkTokenState::UsedUp if !used_before => Err(Reason::BulkTokenUsedUp),
            BulkTokenState::UsedUp | BulkTokenState::Active => Ok(()),
        }
    }
}

/// An operation on bulk tokens was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum BulkTokenError {
    /// Out of bounds.
    #[error("a bulk registration token lives 1 minute to 10,080 minutes (7 days)")]
    Lifetime,
    /// A token that nobody may use.
    #[error("a token for no device at all makes no sense")]
    NoUses,
    /// The note is not taken.
    #[error("token not made")]
    Note(#[from] NameError),
    /// No such token.
    #[error("there is no bulk registration token {0}")]
    Unknown(Guid),
    /// The signature was not made.
    #[error("token not made")]
    Sign(#[from] RingError),
    /// The database failed.
    #[error("bulk tokens not read or written")]
    Database(#[from] DbError),
}

impl Site {
    /// Makes a token and answers its text, which is kept nowhere.
    pub async fn create_bulk_token(
        &self,
        by: &By,
        new: NewBulkToken,
    ) -> Result<NewBulkTokenText, BulkTokenError> {
        if !(BULK_LIFETIME_MIN..=BULK_LIFETIME_MAX).contains(&new.lifetime) {
            return Err(BulkTokenError::Lifetime);
        }
        if new.max_uses == Some(0) {
            return Err(BulkTokenError::NoUses);
        }
        check_text("note", &new.note)?;
        let scribe = self.scribe(by);
        // Tokens count whole seconds: what is stored is what the token says.
        let not_before = Timestamp::from_seconds(scribe.now.seconds());
        let token = Token {
            class: TokenClass::Bulk,
            unique_id: random_guid(),
            hierarchy: self.facts().hierarchy,
            device: None,
            user: None,
            bulk: None,
            entra: None,
            confirmation: None,
            not_before,
            expires: not_before.plus(new.lifetime),
        };
        let keys = self.keys();
        let text = keys.current.mint(&token)?;
        self.counts().minted(token.class);
        let row = BulkToken {
            id: token.unique_id,
            created_at: scribe.now,
            expires_at: token.expires,
            max_uses: new.max_uses,
            uses: 0,
            approval: new.approval,
            note: new.note,
            created_by: by.actor.to_string(),
            blocked: false,
        };
        let (stored, key) = (row.clone(), keys.current.id);
        self.db()
            .write(move |tx| {
                db::bulk_token::insert(tx, &stored)?;
                db::key::raise_last_expiry(tx, key, stored.expires_at)?;
                let detail = json!({
                    "expires": stored.expires_at.iso8601(), "max-uses": stored.max_uses,
                    "approval": stored.approval, "note": stored.note,
                });
                scribe.note(tx, "bulk-token.create", stored.id, &detail)
            })
            .await?;
        Ok(NewBulkTokenText { token: row, text })
    }

    /// All tokens, the newest first; at most 1,000.
    pub async fn list_bulk_tokens(&self) -> Result<Vec<BulkToken>, DbError> {
        self.db().read(db::bulk_token::list).await
    }

    /// One token.
    pub async fn show_bulk_token(&self, id: Guid) -> Result<BulkToken, BulkTokenError> {
        self.db().read(move |tx| db::bulk_token::find(tx, id)).await?.ok_or(BulkTokenError::Unknown(id))
    }

    /// Blocks a token: nobody registers with it any more, and its `PreAuth` tokens end, within
    /// five seconds everywhere.
    pub async fn block_bulk_token(&self, by: &By, id: Guid) -> Result<(), BulkTokenError> {
        self.set_bulk_token_block(by, id, true).await
    }

    /// Lifts a block.
    pub async fn unblock_bulk_token(&self, by: &By, id: Guid) -> Result<(), BulkTokenError> {
        self.set_bulk_token_block(by, id, false).await
    }

    async fn set_bulk_token_block(&self, by: &By, id: Guid, blocked: bool) -> Result<(), BulkTokenError> {
        let scribe = self.scribe(by);
        self.db()
            .write(move |tx| {
                let token = db::bulk_token::find(tx, id)?.ok_or(BulkTokenError::Unknown(id))?;
                if token.blocked == blocked {
                    return Ok(());
                }
                db::bulk_token::set_blocked(tx, id, blocked)?;
                let (act, change) = if blocked {
                    ("bulk-token.block", Change::BlockBulkToken(id))
                } else {
                    ("bulk-token.unblock", Change::UnblockBulkToken(id))
                };
                snapshot::publish(tx, scribe.now, &change)?;
                scribe.note(tx, act, id, &json!({}))?;
                Ok::<_, BulkTokenError>(())
            })
            .await?;
        self.publish_committed().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_used_the_last_place_may_come_again_and_no_other() {
        let now = Timestamp::from_seconds(100);
        let token = BulkToken {
            id: Guid::nil(),
            created_at: now,
            expires_at: now.plus(Duration::from_mins(1)),
            max_uses: Some(2),
            uses: 2,
            approval: BulkTokenApproval::Automatic,
            note: String::new(),
            created_by: String::new(),
            blocked: false,
        };
        assert_eq!(token.admit(true, now), Ok(()));
        assert_eq!(token.admit(false, now), Err(Reason::BulkTokenUsedUp));
        let late = now.plus(Duration::from_mins(1));
        assert_eq!(token.admit(true, late), Err(Reason::TokenExpired));
        let blocked = BulkToken { blocked: true, ..token };
        assert_eq!(blocked.admit(true, now), Err(Reason::BulkTokenBlocked));
        assert_eq!(blocked.state(late), BulkTokenState::Blocked);
    }
}
