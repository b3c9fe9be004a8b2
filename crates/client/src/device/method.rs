//! Which method the device uses: a look at what each could do now, and the registration that tells the
//! site of a change.
//!
//! A method counts once the site has taken a registration by it. Until then the one before goes on.

use std::time::Duration;

use proto::combination::Join;
use proto::identity::Method;
use proto::reason::{Action, Reason};
use proto::time::Timestamp;

use super::{Device, RequestError};
use crate::credential::pki::{self, Chosen};
use crate::credential::preference::{
    Choice, MethodState, Standing, Standings, Trigger, choose, order, shorten,
};
use crate::credential::state::{CertificateRefusal, CertificateState};
use crate::join::Finding;
use crate::log::line;
use crate::platform;
use crate::state::Registration;

/// How long a refusal counts that nobody signed: long enough not to knock all the time, short enough that
/// a stranger on the way cannot keep a device from its certificate.
const UNSIGNED_REFUSAL: Duration = Duration::from_mins(30);
/// How long one counts that the site signed.
const SIGNED_REFUSAL: Duration = Duration::from_hours(24);
/// Methods that one refresh tries: all there are.
const ATTEMPTS: usize = Method::PREFERENCE.len();

/// What a look came to.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) choice: Choice,
    pub(crate) credential: Option<String>,
}

impl Device {
    /// The method in use.
    pub fn method(&self) -> Method {
        self.state.method.as_ref().map_or(Method::SiteToken, |state| state.method)
    }

    /// The certificate of the PKI, while it can be used.
    pub(crate) fn certificate(&self) -> Option<&Chosen> {
        self.transport.certificate().filter(|chosen| self.now() < chosen.not_after)
    }

    /// Whether requests outside go by the certificate.
    pub(crate) fn uses_certificate(&self) -> bool {
        let Some(chosen) = self.certificate() else { return false };
        let method = self.acting.unwrap_or_else(|| self.method());
        method == Method::Certificate && self.refusal_of(chosen).is_none()
    }

    /// Whether CCM tokens are asked for by a tenant's token.
    pub(crate) fn uses_entra(&self) -> bool {
        let method = self.acting.unwrap_or_else(|| self.method());
        matches!(method, Method::EntraDevice | Method::EntraUser) && self.holds_entra_token()
    }

    /// Looks at what each method could do now, sends the site a registration where the choice is another
    /// than what it has last taken, and says whether it was.
    pub async fn refresh(&mut self, trigger: Trigger) -> Result<bool, RequestError> {
        if self.client_id().is_none() {
            return self.register_as(trigger).await.map(|_| true);
        }
        let look = self.look(trigger).await;
        let now = self.now();
        let known = self.state.method.get_or_insert_with(|| MethodState::initial(now));
        if known.differs(&look.choice, look.credential.as_deref()) {
            // A device that never had another method needs no registration to say so.
            let first = known.trigger == Trigger::Setup && known.method == look.choice.method;
            if !first || look.credential.is_some() {
                self.log_change(&look);
                return self.register_with(look, trigger).await.map(|_| true);
            }
        }
        self.take_method(look, trigger)?;
        Ok(false)
    }

    /// Registers by the best method that can be used, and by the next one where the credential of a
    /// better one is refused.
    pub(crate) async fn register_as(&mut self, trigger: Trigger) -> Result<Registration, RequestError> {
        let look = self.look(trigger).await;
        self.register_with(look, trigger).await
    }

    async fn register_with(
        &mut self,
        mut look: Look,
        trigger: Trigger,
    ) -> Result<Registration, RequestError> {
        let mut attempt = 1;
        loop {
            let method = look.choice.method;
            self.acting = Some(method);
            let result = self.register_by(method, &look.choice.refused).await;
            self.acting = None;
            let error = match result {
                Ok(registration) => {
                    self.take_method(look, trigger)?;
                    return Ok(registration);
                }
                Err(error) => error,
            };
            if attempt >= ATTEMPTS || !self.note_credential_refusal(method, &error) {
                return Err(self.without_identity(error, &look));
            }
            attempt += 1;
            line!(
                warn,
                ClientIDManagerStartup,
                method = %method,
                error = %runtime::telemetry::Chain(&error),
                "the registration by this method was refused; trying the next one"
            );
            look = self.look(Trigger::Failure).await;
        }
    }

    /// A device that has nothing at all to show is told what was tried.
    fn without_identity(&self, error: RequestError, look: &Look) -> RequestError {
        let tried = self.state.proof.has_entra() || self.state.proof.has_certificates();
        if matches!(error, RequestError::NoProof) && tried && self.client_id().is_none() {
            let refused = &look.choice.refused;
            let why: Vec<_> =
                refused.iter().map(|refused| format!("{}: {}", refused.method, refused.why)).collect();
            return RequestError::NoIdentity(why.join("; "));
        }
        error
    }

    fn take_method(&mut self, look: Look, trigger: Trigger) -> Result<(), RequestError> {
        let now = self.now();
        let mut state = self.state.method.take().unwrap_or_else(|| MethodState::initial(now));
        let (before, method) = (state.method, look.choice.method);
        state.take(look.choice, look.credential, trigger, now);
        if before != method {
            // Tokens were given for what the device was before.
            self.state.ccm = self.state.ccm.take().filter(|_| method != Method::Certificate);
            line!(info, ClientIDManagerStartup, from = %before, to = %method, reason = state.reason, why_not_better = state.refused_line(), "the device proves itself by another method");
        }
        self.state.method = Some(state);
        self.save().map_err(RequestError::State)
    }

    fn log_change(&self, look: &Look) {
        let choice = &look.choice;
        if self.method() == Method::Certificate && choice.method != Method::Certificate {
            let why = choice.refused.first().map_or(choice.reason.as_str(), |refused| refused.why.as_str());
            line!(warn, ClientIDManagerStartup, to = %choice.method, why, "the device falls back from its certificate; the site is told");
        } else {
            line!(info, ClientIDManagerStartup, to = %choice.method, reason = choice.reason, "registering anew by another method or credential, under the same key");
        }
    }

    /// Looks at each method in the order of preference, until one can be used.
    pub(crate) async fn look(&mut self, trigger: Trigger) -> Look {
        self.read_join();
        self.read_certificate(trigger);
        let preference = self.state.policy.settings.method_preference.clone();
        let unseen = || Standing::Unusable("not looked at, since a better method is used".to_owned());
        let mut standings = Standings { certificate: unseen(), entra_device: unseen(), entra_user: unseen() };
        for method in order(&preference) {
            let (standing, place) = match method {
                Method::Certificate => (self.certificate_standing(), &mut standings.certificate),
                Method::EntraDevice => {
                    (self.entra_device_standing(trigger).await, &mut standings.entra_device)
                }
                Method::EntraUser => (self.entra_user_standing(trigger).await, &mut standings.entra_user),
                Method::SiteToken => break,
            };
            let usable = matches!(standing, Standing::Usable(_));
            *place = standing;
            if usable {
                break;
            }
        }
        let choice = choose(&standings, &preference);
        let credentials = &self.state.credentials;
        let credential = match choice.method {
            Method::Certificate => self.certificate().map(|chosen| chosen.thumbprint.to_string()),
            Method::EntraDevice => credentials.entra_device.map(|device| device.to_string()),
            Method::EntraUser => credentials.accounts.iter().next().map(|account| account.sid.clone()),
            Method::SiteToken => None,
        };
        Look { choice, credential }
    }

    /// Reads the join state anew. What cannot be read leaves what was known.
    pub(crate) fn read_join(&mut self) {
        let proof = &self.state.proof;
        match platform::join_status(proof.join_status.as_deref()) {
            Ok(status) => self.join = status,
            Err(error) => {
                line!(warn, ADALOperationProvider, error = %runtime::telemetry::Chain(&error), "the join state is not known");
            }
        }
        let has_key = proof.workplace_join.as_ref().map(|_| self.join_key().is_ok());
        let (join, finding) = match (&self.join, has_key) {
            (Some(status), has_key) => (Some(status.join()), Some(status.finding(has_key))),
            // Without an account of its own, the key that setup named is the device's account.
            (None, Some(true)) => (Some(Join::Entra), Some(Finding::Entra)),
            (None, Some(false)) => (None, Some(Finding::NoWorkplaceCertificate)),
            (None, None) => (None, None),
        };
        if finding.is_some() && finding != self.state.credentials.finding {
            let text = finding.map_or("", Finding::state);
            line!(info, ADALOperationProvider, state = text, "join state");
        }
        self.state.credentials.join = join;
        self.state.credentials.finding = finding;
    }

    /// Reads the certificate store anew and takes the certificate that the rules choose.
    pub(crate) fn read_certificate(&mut self, trigger: Trigger) {
        let (chosen, problem) = match self.choose_certificate() {
            Ok(chosen) => (Some(chosen), None),
            Err(problem) => (None, Some(problem)),
        };
        let known = self.state.credentials.certificate.as_ref().map(|known| known.thumbprint);
        let found = chosen.as_ref().map(|chosen| CertificateState {
            thumbprint: chosen.thumbprint,
            subject: chosen.subject.clone(),
            issuer: chosen.issuer.clone(),
            not_after: chosen.not_after,
            source: chosen.source.clone(),
        });
        if let Some(found) = found.as_ref().filter(|found| Some(found.thumbprint) != known) {
            line!(info, CertificateMaintenance, subject = found.subject, issuer = found.issuer, thumbprint = %found.thumbprint, until = %found.not_after, "certificate selected");
        }
        if problem != self.state.credentials.certificate_problem
            && let Some(why) = &problem
            && self.state.proof.has_certificates()
        {
            line!(
                warn,
                CertificateMaintenance,
                why,
                "no certificate selected; going on with the self-signed one"
            );
        }
        // Elsewhere, or after a restart, somebody else may stand on the way.
        if matches!(trigger, Trigger::ServiceStart | Trigger::NetworkChange)
            && self.state.credentials.certificate_refused.as_ref().is_some_and(|refused| !refused.signed)
        {
            self.state.credentials.certificate_refused = None;
        }
        self.state.credentials.certificate = found;
        self.state.credentials.certificate_problem = problem;
        if let Err(error) = self.transport.use_certificate(chosen) {
            line!(error, CertificateMaintenance, error = %runtime::telemetry::Chain(&error), "the certificate cannot be used for TLS");
        }
    }

    fn choose_certificate(&self) -> Result<Chosen, String> {
        let proof = &self.state.proof;
        let Some(folder) = &proof.certificate_store else {
            return Err("no certificate store is named".to_owned());
        };
        let store = platform::certificates(folder, proof.certificate_password_file.as_deref())
            .map_err(|error| runtime::telemetry::Chain(&error).to_string())?;
        pki::choose(&store, &proof.selection, &self.state.setup.name, self.now())
            .map_err(|error| shorten(&error.to_string()))
    }

    fn certificate_standing(&self) -> Standing {
        let credentials = &self.state.credentials;
        match self.certificate() {
            None => Standing::Unusable(
                credentials
                    .certificate_problem
                    .clone()
                    .unwrap_or_else(|| "no certificate was selected".to_owned()),
            ),
            Some(chosen) => match self.refusal_of(chosen) {
                Some(refusal) => {
                    Standing::Unusable(format!("{} was refused: {}", chosen.subject, refusal.text))
                }
                None => Standing::Usable(format!(
                    "certificate {} of {} is valid until {}",
                    chosen.subject, chosen.issuer, chosen.not_after
                )),
            },
        }
    }

    /// The refusal of this very certificate that still counts.
    fn refusal_of(&self, chosen: &Chosen) -> Option<&CertificateRefusal> {
        let refusal = self.state.credentials.certificate_refused.as_ref()?;
        let counts = if refusal.signed { SIGNED_REFUSAL } else { UNSIGNED_REFUSAL };
        let now = self.now();
        let fresh = now >= refusal.at && now.since(refusal.at) < counts;
        (refusal.thumbprint == chosen.thumbprint && fresh).then_some(refusal)
    }

    /// Notes that the certificate was refused; `false`: the error says nothing about it.
    pub(super) fn note_certificate_refusal(&mut self, error: &RequestError) -> bool {
        let Some(refusal) = error.call().and_then(crate::failure::CallError::refusal) else { return false };
        let (Some(reason), Some(chosen)) = (refusal.reason, self.transport.certificate()) else {
            return false;
        };
        if !is_about_certificate(reason) {
            return false;
        }
        let who = if refusal.signed { "the site" } else { "a hop on the way, which nobody vouches for," };
        let noted = CertificateRefusal {
            thumbprint: chosen.thumbprint,
            reason: reason.to_string(),
            text: format!("{who} said {reason}: {}", reason.row().cause),
            signed: refusal.signed,
            at: self.now(),
        };
        line!(warn, ClientIDManagerStartup, thumbprint = %noted.thumbprint, reason = noted.reason, signed = noted.signed, "the certificate was refused; the device goes on with its next method and reports it");
        self.state.credentials.certificate_refused = Some(noted);
        if let Err(error) = self.save() {
            line!(error, CcmExec, error = %runtime::telemetry::Chain(&error), "the state could not be kept");
        }
        true
    }

    /// Notes that the credential of a method was refused; `false`: the failure has another cause, and
    /// the next method would meet it, too.
    fn note_credential_refusal(&mut self, method: Method, error: &RequestError) -> bool {
        match method {
            Method::Certificate => {
                let known =
                    self.transport.certificate().is_some_and(|chosen| self.refusal_of(chosen).is_some());
                known || self.note_certificate_refusal(error)
            }
            Method::EntraDevice | Method::EntraUser => {
                let refused = match error {
                    // The registered key signs every message: over plain HTTP that is enough.
                    RequestError::NoProof | RequestError::PlainOnly => true,
                    RequestError::NotApproved => false,
                    other => {
                        other.call().and_then(crate::failure::CallError::refusal).is_some_and(|refusal| {
                            refusal.reason.is_some_and(|reason| reason.row().action != Action::Retry)
                                || refusal.reason == Some(Reason::StsTenantKeysTooOld)
                                || refusal.reason == Some(Reason::TenantKeysTooOld)
                        })
                    }
                };
                if refused {
                    self.note_entra_refusal(method, error);
                }
                refused
            }
            Method::SiteToken => false,
        }
    }

    /// What the site is told of the method with a registration: its own words and the reasons against
    /// better ones.
    pub(crate) fn join_reported(&self) -> Option<Join> {
        self.state.credentials.join
    }

    /// When the certificate in use ends.
    pub fn certificate_ends(&self) -> Option<Timestamp> {
        self.certificate().map(|chosen| chosen.not_after)
    }
}

/// Whether a reason speaks about a certificate, and not about something else of the request. One that
/// asks for a token does not: no answer from the network moves a device to a weaker proof (R74).
fn is_about_certificate(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoClientCertificate
            | Reason::CertificateUnknownIssuer
            | Reason::CertificateExpired
            | Reason::CertificateNotYetValid
            | Reason::CertificateRevoked
            | Reason::RevocationUnknown
            | Reason::CertificateUsage
            | Reason::CertificateWeak
            | Reason::CertificateInvalid
            | Reason::InsideCertificateUnknownIssuer
            | Reason::InsideCertificateExpired
            | Reason::InsideCertificateNotYetValid
            | Reason::InsideCertificateRevoked
            | Reason::InsideRevocationUnknown
            | Reason::InsideCertificateUsage
            | Reason::InsideCertificateWeak
            | Reason::InsideCertificateInvalid
    )
}
