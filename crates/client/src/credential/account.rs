//! Users of a tenant whose tokens the device holds, each apart from the other.

use proto::id::Guid;
use proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::sealed::Sealed;
use crate::policy::Applied;
use crate::token::StoredToken;

/// Most accounts that a device remembers; the one that was used longest ago gives way.
pub const ACCOUNTS: usize = 16;

/// Where the tokens of an account come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountSource {
    /// The user signed in, and a refresh token is kept.
    SignIn,
    /// A program prints them.
    Command,
}

/// A tenant's token as it is kept: sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedToken {
    /// The text.
    pub text: Sealed,
    /// When it ends.
    pub expires: Timestamp,
}

/// What a user's policy came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserPolicy {
    /// The serial of the last list that was believed.
    pub serial: u64,
    /// What is in force for this user.
    pub applied: Vec<Applied>,
    /// When it was last asked for.
    pub asked: Option<Timestamp>,
    /// Why the last request was refused; none after a good one.
    pub refused: Option<String>,
}

/// One user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The key under which its tokens are cached, a SID: the user's on-premises one, or that of the
    /// tenant's object.
    pub sid: String,
    /// The tenant.
    pub tenant: Guid,
    /// The user's object id.
    pub user: Guid,
    /// Principal name, for people.
    pub name: String,
    /// Where its tokens come from.
    pub source: AccountSource,
    /// With what the next token is had.
    pub refresh: Option<Sealed>,
    /// The tenant's token.
    pub token: Option<SealedToken>,
    /// The CCM token for user policy (`UDA`).
    pub ccm: Option<StoredToken>,
    /// Its policy.
    #[serde(default)]
    pub policy: UserPolicy,
    /// When it was last used.
    pub used: Timestamp,
}

/// The accounts of a device.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Accounts(Vec<Account>);

impl Accounts {
    /// All of them, the one used last first.
    pub fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The account with this SID.
    pub fn get(&self, sid: &str) -> Option<&Account> {
        self.0.iter().find(|account| account.sid == sid)
    }

    /// The account with this SID, to be changed.
    pub fn get_mut(&mut self, sid: &str) -> Option<&mut Account> {
        self.0.iter_mut().find(|account| account.sid == sid)
    }

    /// The account with this SID, principal name or object id, as a person names it.
    pub fn find(&self, text: &str) -> Option<&Account> {
        self.0.iter().find(|account| {
            [&account.sid, &account.name, &account.user.to_string()]
                .iter()
                .any(|name| name.eq_ignore_ascii_case(text))
        })
    }

    /// Takes an account, new or known. A known one keeps its policy.
    pub fn put(&mut self, mut account: Account) {
        if let Some(at) = self.0.iter().position(|known| known.sid == account.sid) {
            let known = self.0.remove(at);
            account.policy = known.policy;
        }
        self.0.insert(0, account);
        self.0.sort_by_key(|account| std::cmp::Reverse(account.used));
        self.0.truncate(ACCOUNTS);
    }

    /// Forgets an account; gives it when there was one.
    pub fn remove(&mut self, sid: &str) -> Option<Account> {
        let at = self.0.iter().position(|account| account.sid == sid)?;
        Some(self.0.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(sid: &str, used: i64) -> Account {
        Account {
            sid: sid.to_owned(),
            tenant: Guid::nil(),
            user: Guid::nil(),
            name: format!("{sid}@contoso.com"),
            source: AccountSource::SignIn,
            refresh: None,
            token: None,
            ccm: None,
            policy: UserPolicy::default(),
            used: Timestamp::from_seconds(used),
        }
    }

    #[test]
    fn accounts_are_kept_apart_bounded_and_the_last_used_first() {
        let mut accounts = Accounts::default();
        for n in 0..20 {
            accounts.put(account(&format!("S-{n}"), n));
        }
        assert_eq!(accounts.iter().count(), ACCOUNTS);
        assert_eq!(accounts.iter().next().unwrap().sid, "S-19");
        assert!(accounts.get("S-0").is_none());
        accounts.get_mut("S-10").unwrap().policy.serial = 7;
        accounts.put(account("S-10", 50));
        assert_eq!(
            accounts.iter().next().map(|found| (found.sid.as_str(), found.policy.serial)),
            Some(("S-10", 7))
        );
        assert_eq!(accounts.find("s-10@CONTOSO.com").unwrap().sid, "S-10");
        assert!(accounts.remove("S-10").is_some() && accounts.remove("S-10").is_none());
    }
}
