//! CCM tokens: cached, renewed before their end, asked for by the proof at hand.

use std::time::Duration;

use proto::id::Guid;
use serde::Deserialize;

use super::{Device, Outgoing, RequestError};
use crate::address::Address;
use crate::log::{field, line};
use crate::state::Approval;
use crate::token::{
    CachedMeanwhile, CcmStep, Freshness, Kind, MACHINE_ACCOUNT, Proof, Proofs, StoredToken, TokenText,
    Wanted, ccm_step, read_claims,
};

/// The token service's path.
pub(super) const TARGET: &str = "/CCM_STS";

/// The token service's answer (protocol reference 10.5).
#[derive(Deserialize)]
struct Grant {
    access_token: String,
    /// Seconds.
    expires_in: u64,
}

impl Device {
    /// The CCM token of the registered device, renewed if its end is near.
    pub async fn ccm_token(&mut self) -> Result<TokenText, RequestError> {
        self.ccm_token_for(Wanted::Device).await
    }

    /// A CCM token for a purpose.
    pub(super) async fn ccm_token_for(&mut self, wanted: Wanted) -> Result<TokenText, RequestError> {
        let now = self.now();
        let proofs = Proofs { bulk: self.bulk.is_some(), entra: self.uses_entra() };
        let state = &self.state;
        let cached = state.ccm.clone();
        let step = ccm_step(cached.as_ref(), wanted, state.self_prove.as_ref(), proofs, now);
        match (step, cached) {
            (CcmStep::UseCached, Some(token)) => Ok(token.text),
            (CcmStep::UseCached, None) | (CcmStep::NoProof, _) => Err(RequestError::NoProof),
            (CcmStep::Recover, _) => {
                line!(
                    info,
                    ClientIDManagerStartup,
                    "the self-prove token has ended; confirming the registration by the registered key"
                );
                self.state.ccm = None;
                // Boxed: a confirmation asks for a token of its own.
                Box::pin(self.confirm()).await?;
                self.renewed(Proof::SelfProve, wanted).await
            }
            (CcmStep::Ask(proof, meanwhile), cached) => {
                // One of another kind, as right after registration, is replaced while it is still good.
                if let Some(token) = cached.as_ref().filter(|token| token.judge(now) != Freshness::Good) {
                    let until = token.expires.us();
                    field!(
                        info,
                        CcmMessaging,
                        "CCM Token for '{MACHINE_ACCOUNT}' ({until}) is already expired or close to expire"
                    );
                }
                let mut asked = self.renewed(proof, wanted).await;
                if let (Err(error), Proof::Entra, true) = (&asked, proof, self.state.self_prove.is_some()) {
                    // The tenant's outage strands nobody: the site's own token still shows who asks.
                    line!(warn, CcmMessaging, error = %runtime::telemetry::Chain(error), "no CCM token by the tenant's; asking with the self-prove token");
                    asked = self.renewed(Proof::SelfProve, wanted).await;
                }
                match (asked, meanwhile, cached) {
                    (Err(error), CachedMeanwhile::Good, Some(token)) => {
                        line!(warn, CcmMessaging, error = %runtime::telemetry::Chain(&error), "the CCM token was not renewed; the old one still counts");
                        Ok(token.text)
                    }
                    (asked, _, _) => asked,
                }
            }
        }
    }

    async fn renewed(&mut self, proof: Proof, wanted: Wanted) -> Result<TokenText, RequestError> {
        let token = self.ask_for_token(proof).await?;
        if wanted == Wanted::Device && token.kind != Kind::Device {
            self.note_held();
            return Err(RequestError::NotApproved);
        }
        Ok(token.text)
    }

    /// Asks `CCM_STS` by a proof of the device and keeps the token.
    pub(crate) async fn ask_for_token(&mut self, proof: Proof) -> Result<StoredToken, RequestError> {
        let (text, account) = match proof {
            Proof::SelfProve => (self.state.self_prove.as_ref().map(|token| token.text.clone()), None),
            Proof::Bulk => (self.bulk.clone(), None),
            Proof::Entra => match self.entra_proof().await {
                Some((text, account)) => (Some(text), account),
                None => (None, None),
            },
        };
        let text = text.ok_or(RequestError::NoProof)?;
        let mut token = self.exchange_token(&text, account.as_deref().unwrap_or(MACHINE_ACCOUNT)).await;
        if proof == Proof::SelfProve {
            token = self.with_the_one_before(token).await;
        }
        let token = token?;
        self.state.ccm = Some(token.clone());
        self.save().map_err(RequestError::State)?;
        Ok(token)
    }

    /// A new self-prove token that the token service does not take, as that of a site that was set back to
    /// an older state, leaves the one before it in force; one that it takes ends that one.
    async fn with_the_one_before(
        &mut self,
        asked: Result<StoredToken, RequestError>,
    ) -> Result<StoredToken, RequestError> {
        let now = self.now();
        let Some(before) = self.state.self_prove_before.clone() else { return asked };
        match asked {
            Err(error) if error.asks_for_new_token() && before.judge(now) != Freshness::Expired => {
                line!(warn, ClientIDManagerStartup, error = %runtime::telemetry::Chain(&error), "the new self-prove token was not taken; asking with the one before");
                let taken = self.exchange_token(&before.text, MACHINE_ACCOUNT).await?;
                // Renewed at once: the one that was not taken is no use.
                self.state.self_prove = Some(StoredToken { renew_from: now, ..before });
                self.state.self_prove_before = None;
                Ok(taken)
            }
            Ok(token) => {
                self.state.self_prove_before = None;
                Ok(token)
            }
            Err(error) => Err(error),
        }
    }

    /// Shows `CCM_STS` a token and takes the CCM token that it gives. Inside over plain HTTP no CCM
    /// token is needed, and no other token is shown.
    pub(super) async fn exchange_token(
        &mut self,
        proof: &TokenText,
        account: &str,
    ) -> Result<StoredToken, RequestError> {
        let mut outgoing = Outgoing::get(TARGET.to_owned(), TARGET.to_owned());
        outgoing.shows_certificate = true;
        outgoing.wanted = None;
        let answer = self.send_with_token(&outgoing, proof).await?;
        let grant: Grant = serde_json::from_slice(&answer.body).map_err(RequestError::TokenAnswer)?;
        let lifetime = Duration::from_secs(grant.expires_in);
        if let Ok(claims) = read_claims(&grant.access_token) {
            self.note_hierarchy(claims.hierarchy);
        }
        let token =
            StoredToken::ccm(grant.access_token, lifetime, self.now()).map_err(RequestError::Token)?;
        let until = token.expires.us();
        self.log_token(&format!("Cached encrypted token for '{account}'. Will expire at '{until}'"));
        Ok(token)
    }

    /// Who is asked for a CCM token.
    pub(super) fn log_token_server(&self, address: &Address) {
        self.log_token(&format!("Getting CCM Token from STS server '{}'", address.host_and_path()));
        self.log_token(&format!("Getting CCM Token from {}", address.url(TARGET)));
    }

    /// The field's lines about a CCM token: of set-up and registration in their logs, of a renewal in that
    /// of messaging, too.
    fn log_token(&self, text: &str) {
        field!(info, ClientIDManagerStartup, "{text}");
        if self.client_id().is_some() {
            field!(info, CcmMessaging, "{text}");
        } else {
            field!(info, ccmsetup, "{text}");
        }
    }

    /// The hierarchy stands in every token that the site signs; the device believes the answer that
    /// brought it.
    pub(crate) fn note_hierarchy(&mut self, hierarchy: Option<Guid>) {
        if hierarchy.is_some() {
            self.state.credentials.hierarchy = hierarchy;
        }
    }

    /// The token service gave the token of a device that waits.
    fn note_held(&mut self) {
        if let Some(registration) = &mut self.state.registration {
            registration.approval = Approval::Held;
        }
    }
}
