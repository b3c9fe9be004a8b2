//! Registration and its confirmation: the device makes its key known, and hears who it is.

use proto::id::{ClientId, Guid};
use proto::identity::Method;
use proto::limits;
use proto::message::MessageEndpoint;
use proto::message::header::Property;
use proto::message::signature::HashAlgorithm;
use proto::request::registration::{
    Agent, ApprovalStatus, ClientCertificate, ClientRegistrationRequest, ClientRegistrationResponse, KeyType,
    RegistrationData, RegistrationDetails, RegistrationKind, RegistrationStatus, RegistrationType,
};

use crate::credential::preference::{Refused, Trigger, refused_line};
use crate::device::{CLIENT_VERSION, Device, Outgoing, RequestError, read_reply};
use crate::log::{field, line};
use crate::place::WordSource;
use crate::state::{Approval, Registration};
use crate::token::{Freshness, Kind, Proof, StoredToken, Wanted, read_claims};

/// The name under which our client registers.
const AGENT: &str = "roamgate-client";
/// Where both requests go.
const ENDPOINT: MessageEndpoint = MessageEndpoint::ClientRegistration;

/// Discovery properties in which our client says how it is joined, by which method it registers, and
/// why not by a better one ([ours]). What a site makes of them is the site's: they prove nothing.
pub mod property {
    /// `workgroup`, `domain`, `entra` or `hybrid`.
    pub const JOIN: &str = "JoinState";
    /// Name of the method.
    pub const METHOD: &str = "RoamgateMethod";
    /// `name: why; name: why` of the better ones.
    pub const REFUSED: &str = "RoamgateMethodRefused";
}

impl Device {
    /// Makes the device known by the best method that it can use: with a certificate of the PKI, with
    /// a token of its tenant, with the bulk registration token through a gateway, or inside with
    /// nothing but its key. Registering again with the same key gives the same id.
    pub async fn register(&mut self) -> Result<Registration, RequestError> {
        self.register_as(Trigger::RegistrationRefresh).await
    }

    /// Registers by one method; `refused` says why not by a better one.
    pub(crate) async fn register_by(
        &mut self,
        method: Method,
        refused: &[Refused],
    ) -> Result<Registration, RequestError> {
        let attempt = self.count_registration();
        field!(info, ClientIDManagerStartup, "[RegTask] - Starting registration, attempt {attempt}.");
        let proposed = self.client_id().unwrap_or_else(|| self.provisional_id());
        if self.client_id().is_none() {
            field!(
                info,
                ClientIDManagerStartup,
                "[RegTask] - Client is not registered. Sending registration request for {proposed} ..."
            );
        } else {
            line!(info, ClientIDManagerStartup, device = %proposed, method = %method, "refreshing the registration");
        }
        let registration = self.register_once(method, refused).await?;
        // The certificate is proved for one hierarchy, which the first self-prove token names. A device that
        // never had a token is registered first, and then says who vouches for it.
        if method == Method::Certificate && self.state().credentials.hierarchy.is_none() {
            self.confirm().await?;
            if self.state().credentials.hierarchy.is_some() {
                return self.register_once(method, refused).await;
            }
        }
        Ok(registration)
    }

    async fn register_once(
        &mut self,
        method: Method,
        refused: &[Refused],
    ) -> Result<Registration, RequestError> {
        let request = self.request(RegistrationKind::Registration(Box::new(self.details(method, refused))));
        let xml = request.to_xml();
        let answer = match method {
            Method::EntraDevice | Method::EntraUser => self.send_by_tenant(&xml).await?,
            Method::Certificate => self.ask(ENDPOINT, &xml, Wanted::Any).await?,
            Method::SiteToken => self.send_by_site_token(&xml).await?,
        };
        let response = read_response(&answer, RegistrationType::Registration)?;
        let registration = Registration {
            client_id: response.client_id,
            approval: approval(response.approval),
            registered: self.now(),
            confirmed: None,
        };
        if self.client_id().is_some_and(|known| known != registration.client_id) {
            // Another id for the same key: the site forgot the device. Tokens name the old one.
            self.state_mut().self_prove = None;
            self.state_mut().self_prove_before = None;
            self.state_mut().ccm = None;
        }
        self.state_mut().registration = Some(registration);
        self.save().map_err(RequestError::State)?;
        log_registered(&registration);
        self.take_permission(response.cloud_gateway, WordSource::Registration)?;
        Ok(registration)
    }

    /// By a CCM token that was given for the tenant's: it carries whom the tenant vouched for.
    async fn send_by_tenant(&mut self, xml: &str) -> Result<String, RequestError> {
        field!(info, ClientIDManagerStartup, "Registering client using AAD auth.");
        let token = self.ask_for_token(Proof::Entra).await?;
        let outgoing = Outgoing::message(ENDPOINT, xml, Wanted::Any);
        let answer = self.send_with_token(&outgoing, &token.text).await?;
        read_reply(&answer)
    }

    /// By the bulk registration token through a gateway while there is one; else by the device's key.
    async fn send_by_site_token(&mut self, xml: &str) -> Result<String, RequestError> {
        if !self.prefers_gateway() {
            return self.ask(ENDPOINT, xml, Wanted::Any).await;
        }
        // The token vouches for the device, and it is shown at the gateway. Where no gateway can
        // be reached the inside may still take the device by a rule.
        match self.send_by_bulk_token(xml).await {
            Err(error) if error.is_of_the_way() && self.knows_inside() => {
                self.ask(ENDPOINT, xml, Wanted::Any).await
            }
            other => other,
        }
    }

    async fn send_by_bulk_token(&mut self, xml: &str) -> Result<String, RequestError> {
        let now = self.now();
        let cached = self.state().ccm.clone();
        // One exchange serves registration and confirmation, and an attempt that is made again.
        let cached =
            cached.filter(|token| token.kind == Kind::PreAuth && token.judge(now) == Freshness::Good);
        let token = match cached {
            Some(token) => token,
            None => self.ask_for_token(Proof::Bulk).await?,
        };
        let outgoing = Outgoing::message(ENDPOINT, xml, Wanted::Any);
        let answer = self.send_with_token(&outgoing, &token.text).await?;
        read_reply(&answer)
    }

    /// Confirms the registration: hears whether the device is approved by now, and gets or renews
    /// the self-prove token.
    pub async fn confirm(&mut self) -> Result<Registration, RequestError> {
        let known = self.registered()?;
        let request = self.request(RegistrationKind::Confirmation);
        let answer = self.ask(ENDPOINT, &request.to_xml(), Wanted::Any).await?;
        let response = read_response(&answer, RegistrationType::Confirmation)?;
        if response.client_id != known.client_id {
            return Err(RequestError::OtherDevice);
        }
        let now = self.now();
        if let Some(text) = response.pre_auth_token {
            let hierarchy = read_claims(&text).ok().and_then(|claims| claims.hierarchy);
            self.note_hierarchy(hierarchy);
            let token =
                StoredToken::self_prove(text, now, runtime::id::random()).map_err(RequestError::Token)?;
            line!(
                info,
                ClientIDManagerStartup,
                until = %token.expires,
                renew_from = %token.renew_from,
                "self-prove token received"
            );
            let before = self.state_mut().self_prove.replace(token);
            // Kept until the new one was used: should the site not know it, the device is not lost.
            self.state_mut().self_prove_before = before.filter(|before| now < before.expires);
        }
        let registration =
            Registration { approval: approval(response.approval), confirmed: Some(now), ..known };
        self.state_mut().registration = Some(registration);
        self.save().map_err(RequestError::State)?;
        if known.approval != registration.approval || known.confirmed.is_none() {
            log_registered(&registration);
        }
        self.take_permission(response.cloud_gateway, WordSource::Confirmation)?;
        Ok(registration)
    }

    /// What the log calls the device until the site has named it: the beginning of its key's
    /// thumbprint in the form of an id. It is never sent.
    fn provisional_id(&self) -> ClientId {
        let mut bytes = [0; 16];
        for (byte, of_key) in bytes.iter_mut().zip(self.identity().thumbprint().as_bytes()) {
            *byte = *of_key;
        }
        ClientId::new(Guid::from_bytes(bytes))
    }

    fn request(&self, kind: RegistrationKind) -> ClientRegistrationRequest {
        let data = RegistrationData {
            hash_algorithm: HashAlgorithm::Sha256WithRsa,
            client_id: match kind {
                RegistrationKind::Registration(_) => None,
                RegistrationKind::Confirmation => self.client_id(),
            },
            time: self.now(),
            agent: Agent { identity: AGENT.to_owned(), version: CLIENT_VERSION.to_owned(), agent_type: 0 },
            kind,
        };
        ClientRegistrationRequest::sign(data, self.identity().key())
    }

    fn details(&self, method: Method, refused: &[Refused]) -> RegistrationDetails {
        let certificate =
            ClientCertificate { der: self.identity().certificate().to_vec(), key_type: KeyType::SelfSigned };
        let setup = &self.state().setup;
        let internet_only = if setup.always_internet || setup.inside.is_empty() { "2" } else { "1" };
        let refused: String = refused_line(refused).chars().take(limits::DISCOVERY_VALUE_CHARS).collect();
        let mut properties = vec![
            ("Netbios Name", setup.name.as_str()),
            ("FQ Name", &setup.name),
            ("Locale ID", "1033"),
            ("InternetFlag", internet_only),
            ("HardwareID1", &setup.hardware_id),
            (property::METHOD, method.name()),
        ];
        if let Some(join) = self.join_reported() {
            properties.push((property::JOIN, join.as_str()));
        }
        if !refused.is_empty() {
            properties.push((property::REFUSED, &refused));
        }
        let property =
            |(name, value): (&str, &str)| Property { name: name.to_owned(), value: value.to_owned() };
        RegistrationDetails {
            encryption: certificate.clone(),
            signing: certificate,
            properties: properties.into_iter().map(property).collect(),
            hint: None,
        }
    }
}

/// Reads an answer and what it says of the device.
fn read_response(xml: &str, expected: RegistrationType) -> Result<ClientRegistrationResponse, RequestError> {
    let response = ClientRegistrationResponse::parse(xml).map_err(RequestError::Body)?;
    if response.response_type != expected {
        return Err(RequestError::OtherDevice);
    }
    match response.status {
        RegistrationStatus::Registered => Ok(response),
        // Known, and not yet believed: to us the same as registered and held.
        RegistrationStatus::Pending => {
            Ok(ClientRegistrationResponse { approval: ApprovalStatus::Pending, ..response })
        }
        refused => Err(RequestError::Registration(refused)),
    }
}

fn approval(status: ApprovalStatus) -> Approval {
    match status {
        ApprovalStatus::Approved => Approval::Approved,
        ApprovalStatus::ApprovedByEntra => Approval::ApprovedByEntra,
        ApprovalStatus::Unknown | ApprovalStatus::Pending | ApprovalStatus::NotApplicable => Approval::Held,
    }
}

fn log_registered(registration: &Registration) {
    field!(
        info,
        ClientIDManagerStartup,
        "[RegTask] - Client is registered. Server assigned ClientID is {}. Approval status {}",
        registration.client_id,
        registration.approval.number()
    );
}
