//! Registration and its confirmation: the device makes its key known, and hears who it is.

use proto::id::{ClientId, Guid};
use proto::message::MessageEndpoint;
use proto::message::header::Property;
use proto::message::signature::HashAlgorithm;
use proto::request::registration::{
    Agent, ApprovalStatus, ClientCertificate, ClientRegistrationRequest, ClientRegistrationResponse, KeyType,
    RegistrationData, RegistrationDetails, RegistrationKind, RegistrationStatus, RegistrationType,
};

use crate::device::{CLIENT_VERSION, Device, RequestError};
use crate::log::{field, line};
use crate::state::{Approval, Registration};
use crate::token::{StoredToken, Wanted};

/// The name under which our client registers.
const AGENT: &str = "roamgate-client";

impl Device {
    /// Makes the device known: with the bulk registration token through a gateway, inside without.
    /// Registering again with the same key gives the same id.
    pub async fn register(&mut self) -> Result<Registration, RequestError> {
        let attempt = self.count_registration();
        field!(info, ClientIDManagerStartup, "[RegTask] - Starting registration, attempt {attempt}.");
        let proposed = self.client_id().unwrap_or_else(|| self.provisional_id());
        field!(
            info,
            ClientIDManagerStartup,
            "[RegTask] - Client is not registered. Sending registration request for {proposed} ..."
        );
        let request = self.request(RegistrationKind::Registration(Box::new(self.details())));
        let response = self.exchange(&request, RegistrationType::Registration).await?;
        let registration = Registration {
            client_id: response.client_id,
            approval: approval(response.approval),
            registered: self.now(),
            confirmed: None,
        };
        if self.client_id().is_some_and(|known| known != registration.client_id) {
            // Another id for the same key: the site forgot the device. Tokens name the old one.
            self.state_mut().self_prove = None;
        }
        self.state_mut().registration = Some(registration);
        self.save().map_err(RequestError::State)?;
        log_registered(&registration);
        Ok(registration)
    }

    /// Confirms the registration: hears whether the device is approved by now, and gets or renews
    /// the self-prove token.
    pub async fn confirm(&mut self) -> Result<Registration, RequestError> {
        let known = self.registered()?;
        let request = self.request(RegistrationKind::Confirmation);
        let response = self.exchange(&request, RegistrationType::Confirmation).await?;
        if response.client_id != known.client_id {
            return Err(RequestError::OtherDevice);
        }
        let now = self.now();
        if let Some(text) = response.pre_auth_token {
            let token =
                StoredToken::self_prove(text, now, runtime::id::random()).map_err(RequestError::Token)?;
            line!(
                info,
                ClientIDManagerStartup,
                until = %token.expires,
                renew_from = %token.renew_from,
                "self-prove token received"
            );
            self.state_mut().self_prove = Some(token);
        }
        let registration =
            Registration { approval: approval(response.approval), confirmed: Some(now), ..known };
        self.state_mut().registration = Some(registration);
        self.save().map_err(RequestError::State)?;
        if known.approval != registration.approval || known.confirmed.is_none() {
            log_registered(&registration);
        }
        Ok(registration)
    }

    async fn exchange(
        &mut self,
        request: &ClientRegistrationRequest,
        expected: RegistrationType,
    ) -> Result<ClientRegistrationResponse, RequestError> {
        let (endpoint, xml) = (MessageEndpoint::ClientRegistration, request.to_xml());
        let outside = expected == RegistrationType::Registration && self.prefers_gateway();
        let xml = if outside {
            // The token vouches for the device, and it is shown at the gateway. Where no gateway can
            // be reached the inside may still take the device by a rule.
            match self.ask_outside(endpoint, &xml, Wanted::Any).await {
                Err(error) if error.is_of_the_way() && self.knows_inside() => {
                    self.ask(endpoint, &xml, Wanted::Any).await?
                }
                other => other?,
            }
        } else {
            self.ask(endpoint, &xml, Wanted::Any).await?
        };
        let response = ClientRegistrationResponse::parse(&xml).map_err(RequestError::Body)?;
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

    fn details(&self) -> RegistrationDetails {
        let certificate =
            ClientCertificate { der: self.identity().certificate().to_vec(), key_type: KeyType::SelfSigned };
        let setup = &self.state().setup;
        let internet_only = if setup.always_internet || setup.inside.is_empty() { "2" } else { "1" };
        let properties = [
            ("Netbios Name", setup.name.as_str()),
            ("FQ Name", &setup.name),
            ("Locale ID", "1033"),
            ("InternetFlag", internet_only),
            ("HardwareID1", &setup.hardware_id),
        ];
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
