//! Signed requests and signed answers: HTTP Message Signatures (RFC 9421) with
//! Content-Digest (RFC 9530), in one fixed profile (settled point 13).
//!
//! A request is signed by the device's registered RSA key over method, role-relative path,
//! client id, message id, token digest, body digest, and the digest of the headers in which a client
//! certificate is proved: those name a key of their own, so a gateway that has one could put its own in
//! their place. The path stands in a header of ours, because the connection point rewrites the request
//! line. An answer is signed by the site's
//! message key (P-256) over its status, the id of the message that it answers, that very
//! request's signature (RFC 9421, section 2.4), its reason and its body digest. A gateway can so
//! neither alter nor invent nor swap either (R40): the id alone would not do, because whoever sees
//! it could ask something else under the same id, with a key of his own.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::client_certificate;
use crate::id::{ClientId, Guid, Thumbprint};
use crate::limits;
use crate::reason;
use crate::time::Timestamp;

/// The role-relative target that was signed.
pub const PATH: &str = "roamgate-path";
/// The sender's client id; `-` before registration.
pub const CLIENT_ID: &str = "roamgate-client-id";
/// Names the message; taken once.
pub const MESSAGE_ID: &str = "roamgate-message-id";
/// Digest of the token sent along; `-` without one.
pub const TOKEN_DIGEST: &str = "roamgate-token-digest";
/// Digest of the headers that prove a client certificate, see [`crate::client_certificate`]; `-`
/// without them.
pub const CLIENT_CERTIFICATE_DIGEST: &str = "roamgate-client-certificate-digest";
/// Base64 of the sender's certificate, for a receiver that may not know it; on an answer the
/// chain, leaf first, separated by commas.
pub const CERTIFICATE: &str = "roamgate-certificate";
/// Set to `chain` by a client that does not know the site's message certificate yet.
pub const WANT: &str = "roamgate-want";
/// Names the message that an answer answers.
pub const ANSWERS: &str = "roamgate-answers";
const CONTENT_DIGEST: &str = "content-digest";
const SIGNATURE_INPUT: &str = "signature-input";
/// The signature itself.
pub const SIGNATURE: &str = "signature";
/// In an answer: the header [`SIGNATURE`] of the request, which the answer does not repeat.
const REQUEST_SIGNATURE: &str = "signature;req";

/// Every header of this profile: what a gateway and a connection point must let through.
pub const HEADERS: &[&str] = &[
    PATH,
    CLIENT_ID,
    MESSAGE_ID,
    TOKEN_DIGEST,
    CLIENT_CERTIFICATE_DIGEST,
    CERTIFICATE,
    WANT,
    ANSWERS,
    CONTENT_DIGEST,
    SIGNATURE_INPUT,
    SIGNATURE,
];

/// What stands for "none" in a signed header.
const NONE: &str = "-";
const REQUEST_COMPONENTS: [&str; 6] =
    [PATH, CLIENT_ID, MESSAGE_ID, TOKEN_DIGEST, CLIENT_CERTIFICATE_DIGEST, CONTENT_DIGEST];
const REQUEST_ALGORITHM: &str = "rsa-v1_5-sha256";
const ANSWER_ALGORITHM: &str = "ecdsa-p256-sha256";

/// A header as name and value.
pub type Header = (&'static str, String);

/// Why a signed request or answer was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header of the profile is missing, too long or malformed.
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    /// Signed for another path, another token, another client certificate or another body.
    #[error("the signature is for another {0}")]
    Other(&'static str),
    /// The key in the certificate is not the one named, or cannot be read.
    #[error("the certificate is not that of the key that signed")]
    Key,
    /// The signature does not fit.
    #[error("the signature does not fit")]
    Signature,
}

/// A request about to be signed.
#[derive(Debug, Clone, Copy)]
pub struct RequestToSign<'a> {
    /// The method as sent.
    pub method: &'a str,
    /// Path and query as the role will see them.
    pub target: &'a str,
    /// The sender, once registered.
    pub client: Option<ClientId>,
    /// A fresh id.
    pub message_id: Guid,
    /// The token sent along.
    pub token: Option<&'a str>,
    /// The headers sent along that prove a client certificate, as [`client_certificate::ProofOf`]
    /// makes them; empty: none.
    pub client_certificate: &'a [Header],
    /// The body as sent.
    pub body: &'a [u8],
}

impl RequestToSign<'_> {
    /// The headers that sign it. `sign` is RSASSA-PKCS1-v1_5 with SHA-256 by the key of the
    /// certificate `key`, bytes in the usual order. Fails only as `sign` fails.
    pub fn headers<E>(
        &self,
        created: Timestamp,
        key: Thumbprint,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<Header>, E> {
        let proof = |name: &str| {
            self.client_certificate.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
        };
        let mut headers = vec![
            (PATH, self.target.to_owned()),
            (CLIENT_ID, self.client.map_or_else(|| NONE.to_owned(), |id| id.to_string())),
            (MESSAGE_ID, self.message_id.to_string()),
            (TOKEN_DIGEST, self.token.map_or_else(|| NONE.to_owned(), |token| sha256(token.as_bytes()))),
            (CLIENT_CERTIFICATE_DIGEST, client_certificate_digest(proof)),
            (CONTENT_DIGEST, sha256(self.body)),
        ];
        let parameters = parameters("@method", &REQUEST_COMPONENTS, created, key, REQUEST_ALGORITHM);
        let base = base("@method", self.method, headers.iter().map(|(n, v)| (*n, v.as_str())), &parameters);
        let signature = sign(base.as_bytes())?;
        headers.push((SIGNATURE_INPUT, format!("roamgate={parameters}")));
        headers.push((SIGNATURE, format!("roamgate=:{}:", STANDARD.encode(signature))));
        Ok(headers)
    }
}

/// A request that says it is signed; nothing is believed until [`SignedRequest::verify`].
#[derive(Debug, Clone)]
pub struct SignedRequest {
    /// Who says it sent this.
    pub client: Option<ClientId>,
    /// Names the message.
    pub message_id: Guid,
    /// Thumbprint of the certificate whose key signed.
    pub key: Thumbprint,
    /// When it was signed.
    pub created: Timestamp,
    content_digest: String,
    token_digest: String,
    base: String,
    signature: Vec<u8>,
}

impl SignedRequest {
    /// Reads the headers of a request; `None` when it is not signed at all.
    ///
    /// `target` is the path and query as the role sees them and must be what was signed, as must be
    /// the headers in which a client certificate is proved, or that there are none.
    pub fn parse<'a>(
        method: &str,
        target: &str,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Option<Self>, SignatureError> {
        if header(SIGNATURE).is_none() && header(SIGNATURE_INPUT).is_none() {
            return Ok(None);
        }
        let values = read(&REQUEST_COMPONENTS, &header)?;
        let value = |name: &'static str| {
            values.iter().find(|(n, _)| *n == name).map(|(_, v)| *v).ok_or(SignatureError::Header(name))
        };
        if value(PATH)? != target {
            return Err(SignatureError::Other("path"));
        }
        if value(CLIENT_CERTIFICATE_DIGEST)? != client_certificate_digest(&header) {
            return Err(SignatureError::Other("client certificate"));
        }
        let client = match value(CLIENT_ID)? {
            NONE => None,
            id => Some(id.parse().map_err(|_| SignatureError::Header(CLIENT_ID))?),
        };
        let message_id = value(MESSAGE_ID)?.parse().map_err(|_| SignatureError::Header(MESSAGE_ID))?;
        let input = Input::read(&header, "@method", &REQUEST_COMPONENTS, REQUEST_ALGORITHM)?;
        Ok(Some(Self {
            client,
            message_id,
            key: input.key,
            created: input.created,
            content_digest: value(CONTENT_DIGEST)?.to_owned(),
            token_digest: value(TOKEN_DIGEST)?.to_owned(),
            base: base("@method", method, values.iter().copied(), &input.parameters),
            signature: input.signature,
        }))
    }

    /// Checks the signature by this certificate's key, and that body and token are those signed.
    /// Whether `created` is recent and the message id new is for the caller to judge.
    pub fn verify(&self, certificate: &[u8], token: Option<&str>, body: &[u8]) -> Result<(), SignatureError> {
        if Thumbprint::of(certificate) != self.key {
            return Err(SignatureError::Key);
        }
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| SignatureError::Key)?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, parsed.public_key().raw)
            .verify(self.base.as_bytes(), &self.signature)
            .map_err(|_| SignatureError::Signature)?;
        if self.content_digest != sha256(body) {
            return Err(SignatureError::Other("body"));
        }
        if self.token_digest != token.map_or_else(|| NONE.to_owned(), |token| sha256(token.as_bytes())) {
            return Err(SignatureError::Other("token"));
        }
        Ok(())
    }
}

/// The signed request that an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered<'a> {
    /// Its message id.
    pub message_id: Guid,
    /// Its header [`SIGNATURE`], which stands for everything that it says.
    pub signature: &'a str,
}

/// An answer about to be signed.
#[derive(Debug, Clone, Copy)]
pub struct AnswerToSign<'a> {
    /// HTTP status.
    pub status: u16,
    /// The request that it answers.
    pub answers: Answered<'a>,
    /// The reason code of a refusal, as in the header [`reason::HEADER`].
    pub reason: Option<&'a str>,
    /// The body as sent.
    pub body: &'a [u8],
}

impl AnswerToSign<'_> {
    /// The headers that sign it. `sign` is ECDSA P-256 with SHA-256, 64 bytes (r and s).
    pub fn headers<E>(
        &self,
        created: Timestamp,
        key: Thumbprint,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<Header>, E> {
        let mut headers =
            vec![(ANSWERS, self.answers.message_id.to_string()), (CONTENT_DIGEST, sha256(self.body))];
        let status = self.status.to_string();
        let components = answer_components(self.reason.is_some());
        let parameters = parameters("@status", components, created, key, ANSWER_ALGORITHM);
        let signed = headers
            .iter()
            .map(|(n, v)| (*n, v.as_str()))
            .chain([(REQUEST_SIGNATURE, self.answers.signature)])
            .chain(self.reason.map(|r| (reason::HEADER, r)));
        let base = base("@status", &status, signed, &parameters);
        let signature = sign(base.as_bytes())?;
        headers.push((SIGNATURE_INPUT, format!("roamgate={parameters}")));
        headers.push((SIGNATURE, format!("roamgate=:{}:", STANDARD.encode(signature))));
        Ok(headers)
    }
}

/// Checks a signed answer by the message certificate: that it answers this request, has this
/// status, and this body. Which certificate that must be says [`answer_key`].
pub fn verify_answer<'a>(
    certificate: &[u8],
    status: u16,
    answers: Answered<'a>,
    header: impl Fn(&str) -> Option<&'a str>,
    body: &[u8],
) -> Result<(), SignatureError> {
    let components = answer_components(header(reason::HEADER).is_some());
    let value = |name: &str| if name == REQUEST_SIGNATURE { Some(answers.signature) } else { header(name) };
    let values = read(components, &value)?;
    let input = Input::read(&header, "@status", components, ANSWER_ALGORITHM)?;
    if Thumbprint::of(certificate) != input.key {
        return Err(SignatureError::Key);
    }
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| SignatureError::Key)?;
    let base = base("@status", &status.to_string(), values.iter().copied(), &input.parameters);
    let point = parsed.public_key().subject_public_key.data.as_ref();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(base.as_bytes(), &input.signature)
        .map_err(|_| SignatureError::Signature)?;
    if header(ANSWERS) != Some(answers.message_id.to_string().as_str()) {
        return Err(SignatureError::Other("request"));
    }
    if header(CONTENT_DIGEST) != Some(sha256(body).as_str()) {
        return Err(SignatureError::Other("body"));
    }
    Ok(())
}

/// The key that a signed answer names; `None` when the answer is not signed.
pub fn answer_key<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Thumbprint> {
    let components = answer_components(header(reason::HEADER).is_some());
    Input::read(&header, "@status", components, ANSWER_ALGORITHM).ok().map(|input| input.key)
}

/// Reads the header [`CERTIFICATE`]: one to three certificates (DER), leaf first.
pub fn read_certificates(value: &str) -> Result<Vec<Vec<u8>>, SignatureError> {
    if value.len() > limits::CERTIFICATE_HEADER_BYTES {
        return Err(SignatureError::Header(CERTIFICATE));
    }
    let chain: Result<Vec<_>, _> =
        value.split(',').take(4).map(|part| STANDARD.decode(part.trim())).collect();
    match chain {
        Ok(chain) if chain.len() <= 3 => Ok(chain),
        _ => Err(SignatureError::Header(CERTIFICATE)),
    }
}

/// Writes the header [`CERTIFICATE`].
pub fn write_certificates<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> String {
    chain.into_iter().map(|der| STANDARD.encode(der)).collect::<Vec<_>>().join(",")
}

fn answer_components(with_reason: bool) -> &'static [&'static str] {
    const ALL: &[&str] = &[ANSWERS, CONTENT_DIGEST, REQUEST_SIGNATURE, reason::HEADER];
    match ALL {
        [unrefused @ .., _] if !with_reason => unrefused,
        all => all,
    }
}

/// What [`CLIENT_CERTIFICATE_DIGEST`] says of these headers. No header holds a line feed, so nothing can
/// move from one to the other unseen.
fn client_certificate_digest<'a>(header: impl Fn(&str) -> Option<&'a str>) -> String {
    match (header(client_certificate::CHAIN), header(client_certificate::PROOF)) {
        (None, None) => NONE.to_owned(),
        (chain, proof) => {
            sha256([chain.unwrap_or_default(), proof.unwrap_or_default()].join("\n").as_bytes())
        }
    }
}

/// `sha-256=:…:` of RFC 9530.
fn sha256(bytes: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, bytes)))
}

/// The signature parameters, in the one form that we write and take.
fn parameters(
    derived: &str,
    components: &[&str],
    created: Timestamp,
    key: Thumbprint,
    algorithm: &str,
) -> String {
    let names: Vec<_> = components.iter().map(|name| format!(" {}", identifier(name))).collect();
    let names = names.concat();
    format!(
        "(\"{derived}\"{names});created={};keyid=\"{}\";alg=\"{algorithm}\"",
        created.seconds(),
        key.base64url()
    )
}

/// How a component is written: its name, and a flag behind it where there is one.
fn identifier(name: &str) -> String {
    match name.split_once(';') {
        Some((name, flag)) => format!("\"{name}\";{flag}"),
        None => format!("\"{name}\""),
    }
}

/// The signature base of RFC 9421, section 2.5.
fn base<'a>(
    derived: &'a str,
    derived_value: &'a str,
    components: impl Iterator<Item = (&'a str, &'a str)>,
    parameters: &'a str,
) -> String {
    let lines = std::iter::once((derived, derived_value))
        .chain(components)
        .chain(std::iter::once(("@signature-params", parameters)))
        .map(|(name, value)| format!("{}: {value}", identifier(name)));
    lines.collect::<Vec<_>>().join("\n")
}

fn read<'a>(
    names: &[&'static str],
    header: &impl Fn(&str) -> Option<&'a str>,
) -> Result<Vec<(&'static str, &'a str)>, SignatureError> {
    names
        .iter()
        .map(|name| match header(name) {
            Some(value) if value.len() <= limits::OWN_HEADER_BYTES => Ok((*name, value)),
            _ => Err(SignatureError::Header(name)),
        })
        .collect()
}

/// `Signature-Input` and `Signature`, taken apart.
struct Input {
    parameters: String,
    created: Timestamp,
    key: Thumbprint,
    signature: Vec<u8>,
}

impl Input {
    fn read<'a>(
        header: &impl Fn(&str) -> Option<&'a str>,
        derived: &str,
        components: &[&str],
        algorithm: &str,
    ) -> Result<Self, SignatureError> {
        let malformed = SignatureError::Header(SIGNATURE_INPUT);
        let text = header(SIGNATURE_INPUT)
            .filter(|value| value.len() <= limits::OWN_HEADER_BYTES)
            .and_then(|value| value.strip_prefix("roamgate="))
            .ok_or(malformed.clone())?;
        let mut created = None;
        let mut key = None;
        for parameter in text.split(';').skip(1) {
            match parameter.split_once('=') {
                Some(("created", value)) => created = value.parse().ok().map(Timestamp::from_seconds),
                Some(("keyid", value)) => key = Thumbprint::from_base64url(value.trim_matches('"')).ok(),
                _ => {}
            }
        }
        let (Some(created), Some(key)) = (created, key) else { return Err(malformed) };
        // One spelling: what we would have written ourselves, or nothing.
        if text != parameters(derived, components, created, key, algorithm) {
            return Err(malformed);
        }
        let signature = header(SIGNATURE)
            .and_then(|value| value.strip_prefix("roamgate=:")?.strip_suffix(':'))
            .filter(|value| value.len() <= limits::OWN_HEADER_BYTES)
            .and_then(|value| STANDARD.decode(value).ok())
            .ok_or(SignatureError::Header(SIGNATURE))?;
        Ok(Self { parameters: text.to_owned(), created, key, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256};

    fn rsa() -> (KeyPair, Vec<u8>) {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let signer = rcgen::KeyPair::try_from(der.as_ref()).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&signer).unwrap();
        (pair, certificate.der().to_vec())
    }

    fn lookup<'a>(headers: &'a [Header]) -> impl Fn(&str) -> Option<&'a str> {
        move |name| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    #[test]
    fn a_signed_request_is_taken_whole_or_not_at_all() {
        let (pair, certificate) = rsa();
        let request = RequestToSign {
            method: "CCM_POST",
            target: "/ccm_system_tokenauth/request",
            client: Some(ClientId::new(Guid::nil())),
            message_id: Guid::nil(),
            token: Some("token"),
            client_certificate: &[],
            body: b"body",
        };
        let created = Timestamp::from_seconds(1_700_000_000);
        let headers = request
            .headers(created, Thumbprint::of(&certificate), |bytes| {
                let mut signature = vec![0; 256];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature)?;
                Ok::<_, aws_lc_rs::error::Unspecified>(signature)
            })
            .unwrap();
        let parse = |headers: &[Header], method, target| {
            SignedRequest::parse(method, target, lookup(headers)).map(Option::unwrap)
        };
        let signed = parse(&headers, request.method, request.target).unwrap();
        assert_eq!((signed.client, signed.created), (request.client, created));
        assert_eq!(signed.verify(&certificate, Some("token"), b"body"), Ok(()));
        assert_eq!(signed.verify(&certificate, Some("other"), b"body"), Err(SignatureError::Other("token")));
        assert_eq!(signed.verify(&certificate, Some("token"), b"Body"), Err(SignatureError::Other("body")));
        assert_eq!(signed.verify(&rsa().1, Some("token"), b"body"), Err(SignatureError::Key));
        assert!(parse(&headers, request.method, "/CCM_STS").is_err());
        let other_method = parse(&headers, "GET", request.target).unwrap();
        assert_eq!(other_method.verify(&certificate, Some("token"), b"body"), Err(SignatureError::Signature));
        // Every header counts: drop or change any one and nothing is accepted.
        for at in 0..headers.len() {
            let mut dropped = headers.clone();
            dropped.remove(at);
            assert!(parse(&dropped, request.method, request.target).is_err(), "without {}", headers[at].0);
            let mut changed = headers.clone();
            changed[at].1 = changed[at].1.replace(['0', 'A', 'b'], "1");
            if changed[at].1 != headers[at].1 {
                let verdict = parse(&changed, request.method, request.target)
                    .and_then(|s| s.verify(&certificate, Some("token"), b"body"));
                assert!(verdict.is_err(), "changed {}", headers[at].0);
            }
        }
    }

    #[test]
    fn the_proof_of_a_client_certificate_is_neither_replaced_nor_dropped_nor_added() {
        let (pair, certificate) = rsa();
        let proof = |chain: &str, proof: &str| {
            vec![(client_certificate::CHAIN, chain.to_owned()), (client_certificate::PROOF, proof.to_owned())]
        };
        let (own, others) = (proof("QUFB", "1800000000.QUFB"), proof("QkJC", "1800000000.QkJC"));
        let moved = proof("QUFB1", "800000000.QUFB");
        let half = |headers: &[Header], at: usize| vec![headers[at].clone()];
        let verdict = |signed: &[Header], sent: &[Header]| {
            let request = RequestToSign {
                method: "CCM_POST",
                target: "/ccm_system/request",
                client: None,
                message_id: Guid::nil(),
                token: None,
                client_certificate: signed,
                body: b"",
            };
            let mut headers = request
                .headers(Timestamp::from_seconds(5), Thumbprint::of(&certificate), |bytes| {
                    let mut signature = vec![0; 256];
                    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature)?;
                    Ok::<_, aws_lc_rs::error::Unspecified>(signature)
                })
                .unwrap();
            headers.extend_from_slice(sent);
            SignedRequest::parse(request.method, request.target, lookup(&headers))
                .and_then(|signed| signed.unwrap().verify(&certificate, None, b""))
        };
        assert_eq!((verdict(&own, &own), verdict(&[], &[])), (Ok(()), Ok(())));
        let other = Err(SignatureError::Other("client certificate"));
        for (what, signed, sent) in [
            ("replaced", &own[..], &others[..]),
            ("dropped", &own, &[]),
            ("added", &[], &others),
            ("the chain replaced", &own, &[others[0].clone(), own[1].clone()]),
            ("the proof replaced", &own, &[own[0].clone(), others[1].clone()]),
            ("the chain dropped", &own, &half(&own, 1)),
            ("the proof dropped", &own, &half(&own, 0)),
            ("a character moved", &own, &moved),
        ] {
            assert_eq!(verdict(signed, sent), other, "{what}");
        }
    }

    #[test]
    fn an_unsigned_request_is_told_from_a_badly_signed_one() {
        assert!(SignedRequest::parse("GET", "/CCM_STS", |_| None).unwrap().is_none());
        let half = |name: &str| (name == SIGNATURE).then_some("roamgate=:AA==:");
        assert!(SignedRequest::parse("GET", "/CCM_STS", half).is_err());
    }

    #[test]
    fn an_answer_counts_for_its_own_request_only() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let signer =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap();
        for reason in [None, Some("RG-3105")] {
            let asked = Answered { message_id: Guid::nil(), signature: "roamgate=:AQ==:" };
            let answer = AnswerToSign { status: 200, answers: asked, reason, body: b"" };
            let mut headers = answer
                .headers(Timestamp::from_seconds(5), Thumbprint::of(certificate.der()), |bytes| {
                    signer.sign(&SystemRandom::new(), bytes).map(|s| s.as_ref().to_vec())
                })
                .unwrap();
            headers.extend(reason.map(|r| (reason::HEADER, r.to_owned())));
            let verify = |status, answers, body: &[u8]| {
                verify_answer(certificate.der(), status, answers, lookup(&headers), body)
            };
            assert_eq!(verify(200, asked, b""), Ok(()));
            assert_eq!(verify(403, asked, b""), Err(SignatureError::Signature));
            assert_eq!(verify(200, asked, b"x"), Err(SignatureError::Other("body")));
            // Another request under the same id: what somebody else asked, with another key.
            let swapped = Answered { signature: "roamgate=:Ag==:", ..asked };
            assert_eq!(verify(200, swapped, b""), Err(SignatureError::Signature));
            let other: Guid = "3C283CD4-88D1-4D24-8AC7-8735BD09A9C3".parse().unwrap();
            let other = Answered { message_id: other, ..asked };
            assert_eq!(verify(200, other, b""), Err(SignatureError::Other("request")));
            assert_eq!(answer_key(lookup(&headers)), Some(Thumbprint::of(certificate.der())));
            // A reason that was not signed cannot be added afterwards.
            if reason.is_none() {
                headers.push((reason::HEADER, "RG-3106".into()));
                let forged = verify_answer(certificate.der(), 200, asked, lookup(&headers), b"");
                assert!(forged.is_err());
            }
        }
    }
}
