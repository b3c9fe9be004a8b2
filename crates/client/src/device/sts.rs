//! CCM tokens: cached, renewed before their end, asked for by the proof at hand.

use std::time::Duration;

use serde::Deserialize;

use super::{Device, Outgoing, RequestError};
use crate::address::Address;
use crate::log::{field, line};
use crate::state::Approval;
use crate::token::{
    CachedMeanwhile, CcmStep, Freshness, Kind, MACHINE_ACCOUNT, Proof, StoredToken, TokenText, Wanted,
    ccm_step,
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
        let state = &self.state;
        let has_bulk = self.bulk.is_some();
        let cached = state.ccm.clone();
        let step = ccm_step(cached.as_ref(), wanted, state.self_prove.as_ref(), has_bulk, now);
        match (step, cached) {
            (CcmStep::UseCached, Some(token)) => Ok(token.text),
            (CcmStep::UseCached, None) | (CcmStep::NoProof, _) => Err(RequestError::NoProof),
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
                match (self.ask_for_token(proof).await, meanwhile, cached) {
                    (Ok(token), _, _) => {
                        if wanted == Wanted::Device && token.kind != Kind::Device {
                            self.note_held();
                            return Err(RequestError::NotApproved);
                        }
                        Ok(token.text)
                    }
                    (Err(error), CachedMeanwhile::Good, Some(token)) => {
                        line!(warn, CcmMessaging, error = %runtime::telemetry::Chain(&error), "the CCM token was not renewed; the old one still counts");
                        Ok(token.text)
                    }
                    (Err(error), _, _) => Err(error),
                }
            }
        }
    }

    /// Asks `CCM_STS`, which is done through a gateway only: inside no CCM token is needed.
    async fn ask_for_token(&mut self, proof: Proof) -> Result<StoredToken, RequestError> {
        let proof_text = match proof {
            Proof::SelfProve => self.state.self_prove.as_ref().map(|token| token.text.clone()),
            Proof::Bulk => self.bulk.clone(),
        };
        let proof_text = proof_text.ok_or(RequestError::NoProof)?;
        if let Some(gateway) = self.gateways().first() {
            let address = Address::Gateway(gateway.clone());
            field!(
                info,
                ClientIDManagerStartup,
                "Getting CCM Token from STS server '{}'",
                address.host_and_path()
            );
            field!(info, ClientIDManagerStartup, "Getting CCM Token from {}", address.url(TARGET));
        }
        let mut outgoing = Outgoing::get(TARGET.to_owned(), TARGET.to_owned());
        outgoing.shows_certificate = true;
        outgoing.wanted = None;
        let answer = self.through_gateways(&outgoing, Some(&proof_text)).await?;
        let grant: Grant = serde_json::from_slice(&answer.body).map_err(RequestError::TokenAnswer)?;
        let lifetime = Duration::from_secs(grant.expires_in);
        let token =
            StoredToken::ccm(grant.access_token, lifetime, self.now()).map_err(RequestError::Token)?;
        let until = token.expires.us();
        field!(
            info,
            ClientIDManagerStartup,
            "Cached encrypted token for '{MACHINE_ACCOUNT}'. Will expire at '{until}'"
        );
        self.state.ccm = Some(token.clone());
        self.save().map_err(RequestError::State)?;
        Ok(token)
    }

    /// The token service gave the token of a device that waits.
    fn note_held(&mut self) {
        if let Some(registration) = &mut self.state.registration {
            registration.approval = Approval::Held;
        }
    }
}
