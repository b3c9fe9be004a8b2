//! What a request carries, and one attempt to send it. Which way it takes: [`super::way`].

use std::time::Duration;

use proto::message::header::ReplyCompression;
use proto::message::{MessageEndpoint, OutgoingRequest, SigningIdentity};
use proto::path::Door;

use super::{Device, RequestError, sts};
use crate::address::Address;
use crate::failure::CallError;
use crate::location::{Inside, Rule};
use crate::log::{field, line};
use crate::token::{MACHINE_ACCOUNT, TokenText, Wanted};
use crate::transport::{Answer, Believed, Call, Method, REQUEST_TIMEOUT, fresh_guid};
use crate::trust::Learned;

/// What a request shows about its sender, besides its signature.
#[derive(Debug, Clone)]
pub(crate) enum Carry {
    /// Nothing more: inside the signature does.
    Nothing,
    /// A token, with the key that it is bound to.
    Token(TokenText),
    /// The certificate of the PKI.
    Certificate,
}

impl Carry {
    fn token(&self) -> Option<&TokenText> {
        match self {
            Self::Token(token) => Some(token),
            Self::Nothing | Self::Certificate => None,
        }
    }

    pub(super) const fn door(&self) -> Door {
        match self {
            Self::Certificate => Door::MutualAuth,
            Self::Nothing | Self::Token(_) => Door::ServerAuth,
        }
    }
}

/// What a request carries.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    Nothing,
    Message { endpoint: MessageEndpoint, xml: &'a str },
}

/// A request, whichever way it will take.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    method: Method,
    /// Path and query at the management point, without a token and with one.
    plain: String,
    with_token: String,
    pub(crate) body: Body<'a>,
    pub(crate) identity_headers: Vec<(&'static str, String)>,
    /// The CCM token that is needed outside; `None` when the request brings its own.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) shows_certificate: bool,
    pub(super) timeout: Duration,
}

impl Outgoing<'_> {
    pub(crate) fn get(plain: String, with_token: String) -> Self {
        Self {
            method: Method::Get,
            plain,
            with_token,
            body: Body::Nothing,
            identity_headers: Vec::new(),
            wanted: Some(Wanted::Any),
            shows_certificate: false,
            timeout: REQUEST_TIMEOUT,
        }
    }

    /// Whether it is about who the device is and what it may: then it may go through a gateway even where
    /// the site forbids that, since its answer says whether the site still does.
    pub(super) fn concerns_registration(&self) -> bool {
        match &self.body {
            Body::Message { endpoint, .. } => *endpoint == MessageEndpoint::ClientRegistration,
            Body::Nothing => self.with_token == super::sts::TARGET,
        }
    }

    /// Whether it belongs to the management point that the device is assigned to [docs].
    pub(super) fn goes_to_assigned(&self) -> bool {
        let assigned = [MessageEndpoint::ClientRegistration, MessageEndpoint::PolicyManager];
        matches!(&self.body, Body::Message { endpoint, .. } if assigned.contains(endpoint))
    }
}

impl<'a> Outgoing<'a> {
    pub(crate) fn message(endpoint: MessageEndpoint, xml: &'a str, wanted: Wanted) -> Self {
        Self {
            method: Method::CcmPost,
            plain: "/ccm_system/request".to_owned(),
            with_token: "/ccm_system_tokenauth/request".to_owned(),
            body: Body::Message { endpoint, xml },
            identity_headers: Vec::new(),
            wanted: Some(wanted),
            shows_certificate: endpoint == MessageEndpoint::ClientRegistration,
            timeout: REQUEST_TIMEOUT,
        }
    }
}

impl Device {
    pub(super) async fn send_outside(&mut self, outgoing: &Outgoing<'_>) -> Result<Answer, RequestError> {
        if self.uses_certificate() {
            let error = match self.through_gateways(outgoing, &Carry::Certificate).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // A refusal of the certificate is noted, told and reported; the device then asks by its next
            // method, so that it can be helped. Any other answer, one that wants a token too, changes
            // nothing about the method (R74).
            if !self.note_certificate_refusal(&error) || self.acting.is_some() {
                return Err(error);
            }
        }
        let Some(wanted) = outgoing.wanted else {
            return self.through_gateways(outgoing, &Carry::Nothing).await;
        };
        let token = self.ccm_token_for(wanted).await?;
        match self.through_gateways(outgoing, &Carry::Token(token)).await {
            // Once, with another token: the site may have changed its keys, or the clock jumped.
            Err(error) if error.asks_for_new_token() => {
                self.state.ccm = None;
                let token = self.ccm_token_for(wanted).await?;
                self.through_gateways(outgoing, &Carry::Token(token)).await
            }
            other => other,
        }
    }

    /// Sends with a token where a token may go: inside by HTTPS if the device is there, else through
    /// a gateway. Never over plain HTTP, where whoever reads along could spend it.
    pub(crate) async fn send_with_token(
        &mut self,
        outgoing: &Outgoing<'_>,
        token: &TokenText,
    ) -> Result<Answer, RequestError> {
        let carry = Carry::Token(token.clone());
        let mut last = None;
        if self.inside == Inside::NotTried {
            // The first request of a device that registers inside by a tenant's token is this one.
            last = self.ask_inside().await;
        }
        if self.inside.is_reached() {
            let inside = Address::inside_of(&self.inside_addresses());
            for address in inside.into_iter().filter(Address::is_tls) {
                match self.attempt(&address, outgoing, &carry).await {
                    Err(error) if error.is_of_the_way() => last = Some(error),
                    other => return other.map_err(RequestError::Call),
                }
            }
        }
        if self.gateways().is_empty() {
            let none = if self.inside.is_reached() {
                RequestError::PlainOnly
            } else {
                RequestError::NoWay { rule: Rule::NoGatewayKnown, source: None }
            };
            return Err(last.map_or(none, RequestError::Call));
        }
        self.through_gateways(outgoing, &carry).await
    }

    /// One request to one address.
    pub(super) async fn attempt(
        &mut self,
        address: &Address,
        outgoing: &Outgoing<'_>,
        carry: &Carry,
    ) -> Result<Answer, CallError> {
        self.tell_judges();
        let token = carry.token();
        let target = if token.is_some() { &outgoing.with_token } else { &outgoing.plain };
        if target == sts::TARGET {
            self.log_token_server(address);
        }
        let body = self.body(address, outgoing);
        let has_certificate = self.certificate().is_some();
        // A token is bound to the device's own key; an HTTPS management point may ask for a certificate.
        let shows_pki = match carry {
            Carry::Certificate => true,
            Carry::Nothing => has_certificate && address.is_tls() && !address.is_gateway(),
            Carry::Token(_) => false,
        };
        let proves_pki =
            self.state.credentials.hierarchy.filter(|_| outgoing.shows_certificate && has_certificate);
        let call = Call {
            method: outgoing.method,
            target,
            token,
            body: &body,
            identity_headers: &outgoing.identity_headers,
            client: self.client_id(),
            shows_certificate: outgoing.shows_certificate,
            shows_pki,
            proves_pki,
            timeout: outgoing.timeout,
        };
        log_call(address, &call);
        let believed = Believed { trust: &self.state.trust, pin: &self.state.setup.pin, store: &*self.store };
        let sent = self.transport.send(address, &call, believed).await;
        self.note_judges();
        let (answer, learned) = sent?;
        self.note_answer(address, learned);
        Ok(answer)
    }

    /// Takes what was learnt about servers and about the clock, whatever became of the request.
    fn note_judges(&mut self) {
        let judge = self.transport.judge();
        self.state.credentials.clock_offset = judge.skew.micros();
        self.state.credentials.unchecked_servers = judge.revocation.warnings();
    }

    fn note_answer(&mut self, address: &Address, learned: Learned) {
        let now = self.now();
        self.state.contact.answered = Some(now);
        if let Some(whereabouts) = &mut self.state.whereabouts {
            whereabouts.address = address.host_and_path();
        }
        let Learned::Trust(trust) = learned else { return };
        line!(
            info,
            ClientAuth,
            origin = trust.origin.map(crate::trust::RootOrigin::name),
            "the site's message certificate was taken"
        );
        self.state.trust = trust;
        // Kept with the next step at the latest; a failure here would be met there again.
        if let Err(error) = self.save() {
            line!(error, ClientAuth, error = %runtime::telemetry::Chain(&error), "the state could not be kept");
        }
    }

    fn body(&self, address: &Address, outgoing: &Outgoing<'_>) -> Vec<u8> {
        let Body::Message { endpoint, xml } = outgoing.body else { return Vec::new() };
        let host = &self.state.setup.name;
        let message_id = fresh_guid();
        let target_host = address.host_and_path();
        let request = OutgoingRequest {
            message_id,
            now: self.now(),
            source_host: host,
            source_id: self.client_id(),
            endpoint,
            target_host: &target_host,
            body: xml,
            compress: true,
            reply_compression: ReplyCompression::Zlib,
            properties: Vec::new(),
        };
        let kind = if endpoint.is_synchronous() { "sync" } else { "async" };
        field!(
            info,
            CcmMessaging,
            "Sending remote {kind} message '{}' to host '{target_host}' endpoint '{endpoint}'. Flags 0x280, sender account {MACHINE_ACCOUNT}",
            message_id.braced()
        );
        match self.client_id().filter(|_| endpoint.is_signed()) {
            Some(client_id) => request.write_signed(&SigningIdentity {
                client_id,
                host,
                key: self.identity.key(),
                public_key: &self.public_key,
                shows_certificate: address.is_tls(),
            }),
            None => request.write(),
        }
    }
}

/// The field's lines about a request that is about to be sent.
fn log_call(address: &Address, call: &Call<'_>) {
    let url = address.url(call.target);
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", &url));
    let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
    // What goes to the token service is a proof of identity, no CCM token yet.
    let has_ccm_token = call.token.is_some() && call.target != super::sts::TARGET;
    let token_auth = u8::from(has_ccm_token);
    field!(
        info,
        CcmMessaging,
        "ccmhttp: Host={}, Path={path}, Port={}, Protocol={scheme}, CcmTokenAuth={token_auth}, Flags=0x4200, Options=0x1e0",
        address.host(),
        address.port()
    );
    if address.is_tls() {
        field!(info, CcmMessaging, "Target URL scheme is HTTPS: {url}");
    }
    if has_ccm_token {
        field!(info, CcmMessaging, "Appending CCM Token to the header.");
    }
}
