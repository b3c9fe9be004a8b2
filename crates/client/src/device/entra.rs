//! Tokens of the tenant: onboarding data, the device's token first, a user's second; with the lines that
//! the field knows.

use std::time::Duration;

use proto::id::Guid;
use proto::identity::Method;
use proto::time::Timestamp;

use super::{Device, RequestError};
use crate::credential::account::{Account, AccountSource, SealedToken, UserPolicy};
use crate::credential::entra::{self, Claims, Granted, JoinKey, JoinKeyError, Onboarding};
use crate::credential::preference::{Standing, Trigger, shorten};
use crate::credential::source::{self, Provider, SourceError};
use crate::credential::state::Problem;
use crate::failure::CallError;
use crate::log::{field, line};
use crate::platform;
use crate::token::{MACHINE_ACCOUNT, TokenText};
use crate::transport::fresh_guid;

/// Time after which a source that gave nothing is asked again.
const RETRY: Duration = Duration::from_mins(15);
/// A token whose end is this near is not shown any more.
const MARGIN: Duration = Duration::from_mins(2);

/// Why there is no token of the tenant.
#[derive(Debug, thiserror::Error)]
pub enum EntraFailure {
    /// Nobody said which tenant.
    #[error("the device's tenant is not known: AADTENANTID is not given, and the join state names none")]
    NoTenant,
    /// The join state forbids to ask.
    #[error("no token request leaves this device: {0}")]
    Join(&'static str),
    /// Neither key nor program.
    #[error("there is no source of tokens (--workplace-join, --device-token-command, --user-token-command)")]
    NoSource,
    /// The workplace-join key.
    #[error("the device cannot prove its workplace join")]
    Key(#[source] JoinKeyError),
    /// Set up to use a certificate.
    #[error(
        "/UsePKICert keeps the client from asking a gateway about the tenant; give AADCLIENTAPPID and AADRESOURCEURI"
    )]
    UsePkiCertificate,
    /// No gateway answered.
    #[error("no gateway answered about the tenant")]
    Gateway(#[source] Box<CallError>),
    /// The tenant is not onboarded, or switched off.
    #[error("tenant {0} is not onboarded at this site, or its authentication is switched off")]
    UnknownTenant(Guid),
    /// The source gave no token.
    #[error("no token came")]
    Source(#[source] SourceError),
    /// Nobody is there to sign in.
    #[error("no user has signed in on this device (`roamgate-client sign-in`)")]
    NobodySignedIn,
    /// Nothing can be sent.
    #[error("connections to the tenant cannot be made")]
    Transport,
}

impl EntraFailure {
    /// The code of the field's log lines.
    fn hresult(&self) -> u32 {
        match self {
            Self::Source(error) => error.hresult(),
            Self::NobodySignedIn => 0x8007_03F0,
            _ => 0xD009_0016,
        }
    }

    /// The failure with its causes in one line.
    fn line(&self) -> String {
        shorten(&runtime::telemetry::Chain(self).to_string())
    }
}

impl Device {
    /// Whether a tenant's token for the method under way is held, or can be had without asking anybody
    /// to do anything.
    pub(super) fn holds_entra_token(&self) -> bool {
        let now = self.now();
        let good = |token: &Option<SealedToken>| {
            token.as_ref().is_some_and(|token| now.plus(MARGIN) < token.expires)
        };
        let credentials = &self.state.credentials;
        good(&credentials.device_token)
            || credentials.accounts.iter().any(|account| good(&account.token) || account.refresh.is_some())
            || self.state.proof.has_entra()
    }

    /// The text of a tenant's token to show `CCM_STS`, with the account that it is for; `None`: none can
    /// be had.
    pub(super) async fn entra_proof(&mut self) -> Option<(TokenText, Option<String>)> {
        let method = self.acting.unwrap_or_else(|| self.method());
        if method == Method::EntraUser {
            let sid = self.state.credentials.accounts.iter().next().map(|account| account.sid.clone())?;
            let text = self.user_token(&sid).await.ok()?;
            return Some((text, Some(sid)));
        }
        let text = self.device_token().await.map_err(|error| {
            line!(warn, ADALOperationProvider, error = %runtime::telemetry::Chain(&error), "no device token");
        });
        text.ok().map(|text| (text, None))
    }

    /// The workplace-join key, read anew.
    pub(super) fn join_key(&self) -> Result<JoinKey, JoinKeyError> {
        let folder = self.state.proof.workplace_join.as_ref().ok_or(JoinKeyError::Missing)?;
        let store = platform::certificates(folder, None)
            .map_err(|error| JoinKeyError::Key(runtime::telemetry::Chain(&error).to_string()))?;
        JoinKey::find(&store, self.now())
    }

    /// What a device token could do now.
    pub(super) async fn entra_device_standing(&mut self, trigger: Trigger) -> Standing {
        let proof = &self.state.proof;
        if proof.workplace_join.is_none() && proof.device_token_command.is_empty() {
            let state =
                self.state.credentials.finding.map_or("it is not joined to Entra ID", |found| found.state());
            return Standing::Unusable(format!("{state}; no token request leaves the device"));
        }
        if self.known_device_token().is_some() {
            return self.device_standing();
        }
        if let Some(why) = self.recent(self.state.credentials.device_token_problem.as_ref(), trigger) {
            return Standing::Unusable(why);
        }
        match self.device_token().await {
            Ok(_) => self.device_standing(),
            Err(error) => Standing::Unusable(self.note_device_problem(&error)),
        }
    }

    fn device_standing(&self) -> Standing {
        let credentials = &self.state.credentials;
        let device = credentials.entra_device.map(|id| id.to_string()).unwrap_or_default();
        let tenant =
            credentials.onboarding.as_ref().map(|known| known.tenant.to_string()).unwrap_or_default();
        Standing::Usable(format!("device token of tenant {tenant} for device {device}"))
    }

    /// What a user token could do now.
    pub(super) async fn entra_user_standing(&mut self, trigger: Trigger) -> Standing {
        let proof = &self.state.proof;
        let has_command = !proof.user_token_command.is_empty();
        let may_prompt = proof.sign_in && self.prompter.is_some() && trigger == Trigger::Setup;
        if !has_command && !may_prompt && self.state.credentials.accounts.is_empty() {
            return Standing::Unusable(EntraFailure::NobodySignedIn.line());
        }
        if let Some(why) = self.recent(self.state.credentials.user_token_problem.as_ref(), trigger) {
            return Standing::Unusable(why);
        }
        match self.any_user_token(may_prompt).await {
            Ok(sid) => {
                self.state.credentials.user_token_problem = None;
                let name = self.state.credentials.accounts.get(&sid).map(|account| account.name.clone());
                Standing::Usable(format!("user token of {}", name.unwrap_or(sid)))
            }
            Err(error) => {
                let text = error.line();
                self.log_failure(&error, MACHINE_ACCOUNT);
                let problem = Problem { text: text.clone(), at: self.now() };
                self.state.credentials.user_token_problem = Some(problem);
                Standing::Unusable(text)
            }
        }
    }

    /// A problem that is too fresh to try again.
    fn recent(&self, problem: Option<&Problem>, trigger: Trigger) -> Option<String> {
        let problem = problem?;
        let now = self.now();
        let eager = matches!(trigger, Trigger::Setup | Trigger::ServiceStart | Trigger::NetworkChange);
        let fresh = now >= problem.at && now.since(problem.at) < RETRY;
        (fresh && !eager).then(|| problem.text.clone())
    }

    fn note_device_problem(&mut self, error: &EntraFailure) -> String {
        let text = error.line();
        self.log_failure(error, MACHINE_ACCOUNT);
        self.state.credentials.device_token_problem = Some(Problem { text: text.clone(), at: self.now() });
        text
    }

    /// Notes that the site, or a gateway, refused the tenant's token of a method.
    pub(super) fn note_entra_refusal(&mut self, method: Method, error: &RequestError) {
        let text = shorten(&format!("the token was refused: {}", runtime::telemetry::Chain(error)));
        let problem = Some(Problem { text, at: self.now() });
        // The CCM token that was given for it would carry the same proof into the next attempt.
        self.state.ccm = None;
        let credentials = &mut self.state.credentials;
        if method == Method::EntraDevice {
            credentials.device_token = None;
            credentials.device_token_problem = problem;
        } else {
            credentials.user_token_problem = problem;
            let sid = credentials.accounts.iter().next().map(|account| account.sid.clone());
            if let Some(account) = sid.and_then(|sid| credentials.accounts.get_mut(&sid)) {
                account.token = None;
            }
        }
    }

    fn known_device_token(&self) -> Option<TokenText> {
        let token = self.state.credentials.device_token.as_ref()?;
        if self.now().plus(MARGIN) >= token.expires {
            return None;
        }
        self.vault.text(&token.text).map(TokenText::from)
    }

    /// The device's token of its tenant: the cached one, or a new one against proof of its key.
    async fn device_token(&mut self) -> Result<TokenText, EntraFailure> {
        if let Some(known) = self.known_device_token() {
            return Ok(known);
        }
        let command = self.state.proof.device_token_command.clone();
        let granted = if command.is_empty() {
            let key = self.permitted_key()?;
            let onboarding = self.onboarding().await?;
            self.built_in_device_token(&key, onboarding).await?
        } else {
            let onboarding = self.onboarding().await.ok();
            self.log_asking("device", onboarding.as_ref(), &command.join(" "));
            source::command(&command, onboarding.as_ref(), "device", self.now())
                .await
                .map_err(EntraFailure::Source)?
        };
        let claims = Claims::read(granted.token.expose());
        let device = claims.as_ref().and_then(|claims| claims.device);
        if claims.as_ref().is_some_and(|claims| claims.user.is_some()) || device.is_none() {
            return Err(EntraFailure::Source(SourceError::Other(
                "no device's: it does not say which device it is",
            )));
        }
        self.state.credentials.entra_device = device;
        self.state.credentials.device_token_problem = None;
        self.state.credentials.device_token =
            Some(SealedToken { text: self.vault.seal(granted.token.expose()), expires: granted.expires });
        field!(
            info,
            ADALOperationProvider,
            "Retrieved AAD token for AAD device '{}'",
            device.unwrap_or(Guid::nil())
        );
        self.keep();
        Ok(granted.token)
    }

    async fn built_in_device_token(
        &self,
        key: &JoinKey,
        onboarding: Onboarding,
    ) -> Result<Granted, EntraFailure> {
        let http = self.tenant_http(&onboarding)?;
        let provider = Provider::discover(http, onboarding.clone()).await.map_err(EntraFailure::Source)?;
        self.log_asking("device", Some(&onboarding), provider.token_endpoint());
        provider.device_token(key, fresh_guid(), self.now()).await.map_err(EntraFailure::Source)
    }

    /// The key, if the join state lets a request leave the device at all.
    fn permitted_key(&self) -> Result<JoinKey, EntraFailure> {
        if let Some(finding) = self.state.credentials.finding.filter(|finding| !finding.may_ask_for_tokens())
        {
            return Err(EntraFailure::Join(finding.state()));
        }
        if self.state.proof.workplace_join.is_none() {
            return Err(EntraFailure::NoSource);
        }
        self.join_key().map_err(EntraFailure::Key)
    }

    /// A token of any user: by the program, of somebody who signed in before, or by a sign-in now.
    async fn any_user_token(&mut self, may_prompt: bool) -> Result<String, EntraFailure> {
        if !self.state.proof.user_token_command.is_empty() {
            return self.user_token_by_command().await;
        }
        let known: Vec<_> =
            self.state.credentials.accounts.iter().map(|account| account.sid.clone()).collect();
        let mut last = EntraFailure::NobodySignedIn;
        for sid in known {
            match self.user_token(&sid).await {
                Ok(_) => return Ok(sid),
                Err(error) => last = error,
            }
        }
        if may_prompt { self.sign_in().await } else { Err(last) }
    }

    async fn user_token_by_command(&mut self) -> Result<String, EntraFailure> {
        let command = self.state.proof.user_token_command.clone();
        let onboarding = self.onboarding().await.ok();
        self.log_asking("user", onboarding.as_ref(), &command.join(" "));
        let granted = source::command(&command, onboarding.as_ref(), "user", self.now())
            .await
            .map_err(EntraFailure::Source)?;
        self.take_user_token(&granted, AccountSource::Command)
    }

    /// The tenant's token of one account: cached, refreshed, or printed by the program.
    pub(super) async fn user_token(&mut self, sid: &str) -> Result<TokenText, EntraFailure> {
        let now = self.now();
        let account = self.state.credentials.accounts.get(sid).ok_or(EntraFailure::NobodySignedIn)?;
        if let Some(token) = account.token.as_ref().filter(|token| now.plus(MARGIN) < token.expires)
            && let Some(text) = self.vault.text(&token.text)
        {
            return Ok(text.into());
        }
        if account.source == AccountSource::Command {
            let found = self.user_token_by_command().await?;
            let account = self.state.credentials.accounts.get(&found).filter(|_| found == sid);
            let token =
                account.and_then(|account| account.token.as_ref()).ok_or(EntraFailure::NobodySignedIn)?;
            return self.vault.text(&token.text).map(TokenText::from).ok_or(EntraFailure::NobodySignedIn);
        }
        let refresh = account.refresh.as_ref().and_then(|sealed| self.vault.text(sealed));
        let refresh = TokenText::from(refresh.ok_or(EntraFailure::NobodySignedIn)?);
        let user = account.user;
        let key = self.permitted_key()?;
        let onboarding = self.onboarding().await?;
        let http = self.tenant_http(&onboarding)?;
        let provider = Provider::discover(http, onboarding.clone()).await.map_err(EntraFailure::Source)?;
        self.log_asking("user", Some(&onboarding), &user.to_string());
        let granted = provider
            .refresh(&refresh, Some((&key, fresh_guid())), now)
            .await
            .map_err(EntraFailure::Source)?;
        self.take_user_token(&granted, AccountSource::SignIn)?;
        Ok(granted.token)
    }

    /// Signs a user in: shows a page and a code, and waits.
    pub async fn sign_in(&mut self) -> Result<String, EntraFailure> {
        self.read_join();
        let prompter = self.prompter.clone().ok_or(EntraFailure::NobodySignedIn)?;
        let key = self.permitted_key()?;
        let onboarding = self.onboarding().await?;
        let http = self.tenant_http(&onboarding)?;
        let provider = Provider::discover(http, onboarding.clone()).await.map_err(EntraFailure::Source)?;
        self.log_asking("user", Some(&onboarding), &onboarding.tenant.to_string());
        let sign_in = provider.begin_sign_in().await.map_err(EntraFailure::Source)?;
        prompter(&sign_in.prompt);
        let granted =
            provider.wait(sign_in, Some(&key), || self.now()).await.map_err(EntraFailure::Source)?;
        self.take_user_token(&granted, AccountSource::SignIn)
    }

    /// Keeps a user's token under its account; gives the account's SID.
    fn take_user_token(&mut self, granted: &Granted, source: AccountSource) -> Result<String, EntraFailure> {
        let other = || EntraFailure::Source(SourceError::Other("no user's"));
        let claims = Claims::read(granted.token.expose()).ok_or_else(other)?;
        let user = claims.user.ok_or_else(other)?;
        let sid =
            claims.sid.clone().filter(|sid| sid.starts_with("S-1-")).unwrap_or_else(|| entra::sid_of(user));
        field!(info, ADALOperationProvider, "Retrieved AAD token for AAD user '{user}'");
        if self.client_id().is_none() {
            field!(info, ccmsetup, "Retrieved AAD token for AAD user '{user}'");
        }
        let known = self.state.credentials.accounts.get(&sid);
        let refresh = match &granted.refresh {
            Some(refresh) => Some(self.vault.seal(refresh.expose())),
            None => known.and_then(|known| known.refresh.clone()),
        };
        let account = Account {
            tenant: claims.tenant.or_else(|| self.tenant()).unwrap_or(Guid::nil()),
            user,
            name: claims.name.unwrap_or_else(|| user.to_string()),
            source,
            refresh,
            token: Some(SealedToken {
                text: self.vault.seal(granted.token.expose()),
                expires: granted.expires,
            }),
            ccm: known.and_then(|known| known.ccm.clone()),
            policy: UserPolicy::default(),
            used: self.now(),
            sid: sid.clone(),
        };
        self.state.credentials.accounts.put(account);
        self.keep();
        Ok(sid)
    }

    pub(super) fn keep(&self) {
        if let Err(error) = self.save() {
            line!(error, ADALOperationProvider, error = %runtime::telemetry::Chain(&error), "the state could not be kept");
        }
    }

    fn tenant_http(&self, onboarding: &Onboarding) -> Result<&reqwest::Client, EntraFailure> {
        let host = entra::host_of(&onboarding.authority).unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let is_loopback = name == "localhost" || name.starts_with("127.") || name == "[::1]";
        self.transport.bare(is_loopback).ok_or(EntraFailure::Transport)
    }

    /// The field's line before a token is asked for.
    fn log_asking(&self, kind: &str, onboarding: Option<&Onboarding>, account: &str) {
        let client = onboarding.map_or("", |known| known.client_app_id.as_str());
        let resource = onboarding.map_or("", |known| known.resource.as_str());
        let account = runtime::telemetry::OneLine(account);
        field!(
            info,
            ADALOperationProvider,
            "Getting AAD ({kind}) token with: ClientId = {client}, ResourceUrl = {resource}, AccountId = {account}"
        );
        if self.client_id().is_none() {
            field!(
                info,
                ccmsetup,
                "Getting AAD ({kind}) token with: ClientId = {client}, ResourceUrl = {resource}, AccountId = {account}"
            );
        }
    }

    /// The field's lines when none came.
    fn log_failure(&self, error: &EntraFailure, account: &str) {
        let code = error.hresult();
        field!(warn, ADALOperationProvider, "WAM token request failed. Status 5, Details '{}'", error.line());
        field!(warn, ADALOperationProvider, "Failed to get AAD token..");
        field!(
            warn,
            ADALOperationProvider,
            "Failed to get AAD token for '{account}' from WAM API. Error {code:#x}"
        );
        if self.client_id().is_some() {
            return;
        }
        field!(warn, ccmsetup, "WAM token request failed. Status 5, Details '{}'", error.line());
        field!(warn, ccmsetup, "Failed to get AAD token..");
        field!(warn, ccmsetup, "Unknown error (Error: {code:X}; Source: Unknown)");
        field!(warn, ccmsetup, "Failed to get AAD token for '{account}' from WAM API. Error {code:#x}");
        let next = self.state.credentials.accounts.iter().next().map(|account| account.sid.as_str());
        if account == MACHINE_ACCOUNT && matches!(error, EntraFailure::Source(_) | EntraFailure::Key(_)) {
            field!(
                info,
                ccmsetup,
                "Falling back to get user '{}' token for system...",
                next.unwrap_or("<none>")
            );
        }
    }

    /// When the device's token of its tenant ends.
    pub fn device_token_ends(&self) -> Option<Timestamp> {
        self.state.credentials.device_token.as_ref().map(|token| token.expires)
    }
}
