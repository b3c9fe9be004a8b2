//! Devices of the tests: keys made once, and the way to a token.

use std::sync::OnceLock;

use proto::id::{ClientId, Guid, Thumbprint};
use proto::message::signature::{RsaPublicKey, RsaSigningKey};
use proto::message::{MessageEndpoint, SigningIdentity};
use proto::request::registration::ClientRegistrationResponse;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::{Ask, Bench, confirmation_body, registration_body};

/// A key pair with its certificate.
pub(crate) struct TestDevice {
    pub(crate) key: RsaSigningKey,
    pub(crate) pkcs8: Vec<u8>,
    pub(crate) public: RsaPublicKey,
    pub(crate) certificate: Vec<u8>,
}

/// The four classes of tokens that a device of the tests can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Bulk,
    PreAuth,
    SelfProve,
    Device,
}

impl Token {
    pub(crate) const ALL: [Self; 4] = [Self::Bulk, Self::PreAuth, Self::SelfProve, Self::Device];
}

/// Three devices, whose keys are made once.
pub(crate) fn devices() -> &'static [TestDevice; 3] {
    static DEVICES: OnceLock<[TestDevice; 3]> = OnceLock::new();
    DEVICES.get_or_init(|| std::array::from_fn(|_| TestDevice::new()))
}

pub(crate) fn fresh_id() -> Guid {
    let mut bytes = [0; 16];
    runtime::id::fill(&mut bytes);
    Guid::from_random(bytes)
}

impl TestDevice {
    pub(crate) fn new() -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let certificate = CertificateParams::default().self_signed(&pair).unwrap().der().to_vec();
        let pkcs8 = pair.serialize_der();
        let key = RsaSigningKey::from_pkcs8(&pkcs8).unwrap();
        Self { public: key.public_key().unwrap(), key, pkcs8, certificate }
    }

    /// The same key under another certificate.
    pub(crate) fn under(&self, certificate: Vec<u8>) -> Self {
        let key = RsaSigningKey::from_pkcs8(&self.pkcs8).unwrap();
        Self { public: key.public_key().unwrap(), key, pkcs8: self.pkcs8.clone(), certificate }
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of(&self.certificate)
    }

    /// Who signs its messages, once it has an id.
    pub(crate) fn identity(&self, client_id: ClientId) -> SigningIdentity<'_> {
        SigningIdentity {
            client_id,
            host: "PC1",
            key: &self.key,
            public_key: &self.public,
            shows_certificate: false,
        }
    }

    /// Registers as the site may judge it, signing the request as our client does.
    pub(crate) async fn register(&self, bench: &Bench) -> ClientRegistrationResponse {
        let body = registration_body(self, "PC1", bench.now(), None);
        let ask = Ask::message(
            "/ccm_system/request",
            super::message::plain(bench, MessageEndpoint::ClientRegistration, &body),
        );
        let answer = bench.send(ask.signed(self, None, bench.now())).await;
        ClientRegistrationResponse::parse(&answer.reply()).unwrap()
    }

    /// Registers and is approved by the operator.
    pub(crate) async fn enroll(&self, bench: &Bench) -> ClientId {
        let id = self.register(bench).await.client_id;
        bench.site.approve_device(&super::operator(), id).await.unwrap();
        id
    }

    /// The self-prove token, by a confirmation.
    pub(crate) async fn confirm(&self, bench: &Bench, id: ClientId) -> ClientRegistrationResponse {
        let body = confirmation_body(self, id, bench.now());
        let ask = Ask::message(
            "/ccm_system/request",
            super::message::plain(bench, MessageEndpoint::ClientRegistration, &body),
        );
        let answer = bench.send(ask.signed(self, Some(id), bench.now())).await;
        ClientRegistrationResponse::parse(&answer.reply()).unwrap()
    }

    /// A CCM token for another token.
    pub(crate) async fn exchange(&self, bench: &Bench, token: &str, id: Option<ClientId>) -> String {
        let ask = Ask::get("/CCM_STS").bearer(token).signed(self, id, bench.now());
        let answer = bench.send(ask).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let grant: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        grant["access_token"].as_str().unwrap().to_owned()
    }

    /// A token of a class, got on the way on which devices get it. The device is enrolled.
    pub(crate) async fn token(&self, bench: &Bench, id: ClientId, class: Token) -> String {
        match class {
            Token::Bulk => bench.bulk_token().await.text,
            Token::PreAuth => self.exchange(bench, &bench.bulk_token().await.text, None).await,
            Token::SelfProve => self.confirm(bench, id).await.pre_auth_token.unwrap(),
            Token::Device => {
                let token = self.confirm(bench, id).await.pre_auth_token.unwrap();
                self.exchange(bench, &token, Some(id)).await
            }
        }
    }
}
