//! CCM tokens of users: one account apart from the other, for user policy only.

use super::{Device, EntraFailure, RequestError};
use crate::log::line;
use crate::state::StateError;
use crate::token::{Freshness, TokenText};

/// Why a user has no CCM token.
#[derive(Debug, thiserror::Error)]
pub enum UserTokenError {
    /// No such account.
    #[error("no account {0:?} is known on this device")]
    Unknown(String),
    /// Nobody has signed in yet.
    #[error("no account is known on this device")]
    NoAccount,
    /// No token of the tenant.
    #[error("there is no token of the tenant for this user")]
    Tenant(#[source] EntraFailure),
    /// The site gave none.
    #[error("the site gave no token for this user")]
    Site(#[source] RequestError),
}

impl Device {
    /// The CCM token (`UDA`) of one account: cached, or in exchange for the tenant's.
    pub(crate) async fn user_ccm_token(&mut self, sid: &str) -> Result<TokenText, UserTokenError> {
        let now = self.now();
        let account = self
            .state
            .credentials
            .accounts
            .get(sid)
            .ok_or_else(|| UserTokenError::Unknown(sid.to_owned()))?;
        if let Some(token) = account.ccm.as_ref().filter(|token| token.judge(now) == Freshness::Good) {
            return Ok(token.text.clone());
        }
        let proof = self.user_token(sid).await.map_err(UserTokenError::Tenant)?;
        let token = self.exchange_token(&proof, sid).await.map_err(UserTokenError::Site)?;
        if let Some(account) = self.state.credentials.accounts.get_mut(sid) {
            account.ccm = Some(token.clone());
            account.used = now;
        }
        self.save().map_err(|error| UserTokenError::Site(RequestError::State(error)))?;
        Ok(token.text)
    }

    /// Forgets an account, named by SID, principal name or object id; `None`: there is none.
    pub fn sign_out(&mut self, text: &str) -> Result<Option<String>, StateError> {
        let Some(sid) = self.state.credentials.accounts.find(text).map(|account| account.sid.clone()) else {
            return Ok(None);
        };
        self.state.credentials.accounts.remove(&sid);
        self.save()?;
        line!(info, ADALOperationProvider, account = sid, "account forgotten");
        Ok(Some(sid))
    }
}
