//! CMS EnvelopedData: how a policy secret is encrypted to one device (section 6.3).
//!
//! Written: DER, one key-transport recipient by issuer and serial number, RSA PKCS#1 v1.5,
//! AES-256-CBC. The same is read and nothing else.

use ::cms::cert::IssuerAndSerialNumber;
use ::cms::content_info::{CmsVersion, ContentInfo};
use ::cms::enveloped_data::{
    EncryptedContentInfo, EnvelopedData, KeyTransRecipientInfo, RecipientIdentifier, RecipientInfo,
    RecipientInfos,
};
use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{
    Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use der::asn1::{ObjectIdentifier, OctetString, SetOfVec};
use der::{Any, Decode as _, Encode as _};
use spki::AlgorithmIdentifierOwned;
use x509_cert::Certificate;
use zeroize::Zeroizing;

use crate::limits;
use crate::message::signature::{KeyError, RsaPublicKey};

const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_ENVELOPED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const AES_256_CBC: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.42");

const KEY_BYTES: usize = 32;
const IV_BYTES: usize = 16;
/// Largest envelope that is read, in bytes.
const ENVELOPE_BYTES: usize = limits::INFLATED_BYTES;

/// Why nothing was encrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The recipient's key is not acceptable.
    #[error("the recipient's key is not acceptable")]
    Key(#[source] KeyError),
    /// The recipient's certificate cannot be named in an envelope.
    #[error("the recipient's certificate is malformed")]
    Certificate,
    /// The cryptographic library or its source of randomness failed.
    #[error("encryption failed")]
    Encryption,
}

/// An envelope that does not open. One error for every cause: which step failed would tell
/// a guesser how far a guess got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the envelope does not open with this key")]
pub struct OpenError;

/// Encrypts to the holder of a certificate's key. Gives DER.
pub fn seal(recipient_certificate: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    RsaPublicKey::from_certificate(recipient_certificate).map_err(SealError::Key)?;
    let certificate = Certificate::from_der(recipient_certificate).map_err(|_| SealError::Certificate)?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(key.as_mut()).map_err(|_| SealError::Encryption)?;
    let (iv, content) = encrypt(&key, plaintext).ok_or(SealError::Encryption)?;
    let wrapped = wrap(&certificate, key.as_ref()).ok_or(SealError::Encryption)?;
    envelope(&certificate, wrapped, &iv, content).map_err(|_| SealError::Certificate)
}

/// Opens an envelope with the key of the certificate that it was made for.
pub fn open(certificate: &[u8], private_key_pkcs8: &[u8], envelope: &[u8]) -> Result<Vec<u8>, OpenError> {
    let parts = take_apart(certificate, envelope).ok_or(OpenError)?;
    let private_key = PrivateDecryptingKey::from_pkcs8(private_key_pkcs8).map_err(|_| OpenError)?;
    // A key that does not unwrap is replaced by a random one, so that a bad wrapping and a
    // bad content take the same road to the same error.
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    rand::fill(key.as_mut()).map_err(|_| OpenError)?;
    let unwrapped = unwrap(private_key, &parts.wrapped_key);
    if let Some(unwrapped) = &unwrapped {
        *key = **unwrapped;
    }
    // A random key makes well-padded rubbish once in 256 times.
    decrypt(&key, &parts.iv, parts.content).filter(|_| unwrapped.is_some()).ok_or(OpenError)
}

fn encrypt(key: &[u8; KEY_BYTES], plaintext: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = UnboundCipherKey::new(&AES_256, key).ok()?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?;
    let mut content = plaintext.to_vec();
    let context = key.encrypt(&mut content).ok()?;
    let iv: &[u8] = (&context).try_into().ok()?;
    Some((iv.to_vec(), content))
}

fn decrypt(key: &[u8; KEY_BYTES], iv: &[u8; IV_BYTES], mut content: Vec<u8>) -> Option<Vec<u8>> {
    let key = UnboundCipherKey::new(&AES_256, key).ok()?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let length = key.decrypt(&mut content, context).ok()?.len();
    content.truncate(length);
    Some(content)
}

fn wrap(certificate: &Certificate, key: &[u8]) -> Option<Vec<u8>> {
    let spki = certificate.tbs_certificate().subject_public_key_info().to_der().ok()?;
    let public_key = Pkcs1PublicEncryptingKey::new(PublicEncryptingKey::from_der(&spki).ok()?).ok()?;
    let mut wrapped = vec![0; public_key.ciphertext_size()];
    let length = public_key.encrypt(key, &mut wrapped).ok()?.len();
    wrapped.truncate(length);
    Some(wrapped)
}

fn unwrap(private_key: PrivateDecryptingKey, wrapped: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let private_key = Pkcs1PrivateDecryptingKey::new(private_key).ok()?;
    let mut plain = Zeroizing::new(vec![0; private_key.min_output_size()]);
    let key = private_key.decrypt(wrapped, &mut plain).ok()?;
    Some(Zeroizing::new((&*key).try_into().ok()?))
}

fn envelope(
    certificate: &Certificate,
    wrapped: Vec<u8>,
    iv: &[u8],
    content: Vec<u8>,
) -> der::Result<Vec<u8>> {
    let recipient = KeyTransRecipientInfo {
        version: CmsVersion::V0,
        rid: RecipientIdentifier::IssuerAndSerialNumber(name_of(certificate)),
        key_enc_alg: AlgorithmIdentifierOwned { oid: RSA_ENCRYPTION, parameters: Some(Any::null()) },
        enc_key: OctetString::new(wrapped)?,
    };
    let enveloped = EnvelopedData {
        version: CmsVersion::V0,
        originator_info: None,
        recip_infos: RecipientInfos(SetOfVec::try_from(vec![RecipientInfo::Ktri(recipient)])?),
        encrypted_content: EncryptedContentInfo {
            content_type: ID_DATA,
            content_enc_alg: AlgorithmIdentifierOwned {
                oid: AES_256_CBC,
                parameters: Some(Any::encode_from(&OctetString::new(iv)?)?),
            },
            encrypted_content: Some(OctetString::new(content)?),
        },
        unprotected_attrs: None,
    };
    ContentInfo { content_type: ID_ENVELOPED_DATA, content: Any::encode_from(&enveloped)? }.to_der()
}

fn name_of(certificate: &Certificate) -> IssuerAndSerialNumber {
    let certificate = certificate.tbs_certificate();
    IssuerAndSerialNumber {
        issuer: certificate.issuer().clone(),
        serial_number: certificate.serial_number().clone(),
    }
}

struct Parts {
    wrapped_key: Vec<u8>,
    iv: [u8; IV_BYTES],
    content: Vec<u8>,
}

/// Takes an envelope apart that was made for this certificate in the one form we write.
fn take_apart(certificate: &[u8], envelope: &[u8]) -> Option<Parts> {
    if envelope.len() > ENVELOPE_BYTES {
        return None;
    }
    let certificate = Certificate::from_der(certificate).ok()?;
    let info = ContentInfo::from_der(envelope).ok().filter(|info| info.content_type == ID_ENVELOPED_DATA)?;
    let enveloped: EnvelopedData = info.content.decode_as().ok()?;
    let [RecipientInfo::Ktri(recipient)] = enveloped.recip_infos.0.as_slice() else { return None };
    let content = enveloped.encrypted_content;
    let wrapping = &recipient.key_enc_alg;
    let known = enveloped.version == CmsVersion::V0
        && enveloped.originator_info.is_none()
        && enveloped.unprotected_attrs.is_none()
        && recipient.version == CmsVersion::V0
        && recipient.rid == RecipientIdentifier::IssuerAndSerialNumber(name_of(&certificate))
        && wrapping.oid == RSA_ENCRYPTION
        && wrapping.parameters.as_ref().is_none_or(Any::is_null)
        && content.content_type == ID_DATA
        && content.content_enc_alg.oid == AES_256_CBC;
    if !known {
        return None;
    }
    let iv: OctetString = content.content_enc_alg.parameters?.decode_as().ok()?;
    Some(Parts {
        wrapped_key: recipient.enc_key.as_bytes().to_vec(),
        iv: iv.as_bytes().try_into().ok()?,
        content: content.encrypted_content?.into_bytes().into_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256};

    /// Certificate and PKCS#8 of a fresh key.
    fn identity() -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let certificate =
            CertificateParams::new(vec!["device".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.der().to_vec(), key.serialize_der())
    }

    #[test]
    fn what_is_sealed_opens_for_its_holder_only() {
        let ((certificate, key), (other_certificate, other_key)) = (identity(), identity());
        for length in [0, 1, 15, 16, 17, 100_000] {
            let plaintext = vec![7; length];
            let sealed = seal(&certificate, &plaintext).unwrap();
            assert_eq!(open(&certificate, &key, &sealed), Ok(plaintext.clone()));
            assert_ne!(seal(&certificate, &plaintext).unwrap(), sealed);
            assert_eq!(open(&other_certificate, &other_key, &sealed), Err(OpenError));
            assert_eq!(open(&certificate, &other_key, &sealed), Err(OpenError));
        }
    }

    #[test]
    fn no_damage_opens_to_the_plaintext() {
        let (certificate, key) = identity();
        let plaintext = [7; 40];
        let sealed = seal(&certificate, &plaintext).unwrap();
        for index in 0..sealed.len() {
            assert!(open(&certificate, &key, &sealed[..index]).is_err(), "cut at {index}");
        }
        // Every byte of structure; content bytes change the plaintext, which the hash in the
        // signed assignment finds.
        for index in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[index] ^= 0x10;
            assert_ne!(open(&certificate, &key, &damaged).as_deref(), Ok(&plaintext[..]), "bit of {index}");
        }
        let mut longer = sealed;
        longer.push(0);
        assert_eq!(open(&certificate, &key, &longer), Err(OpenError));
    }

    #[test]
    fn a_certificate_that_is_none_is_refused() {
        assert_eq!(seal(b"no certificate", b"x"), Err(SealError::Key(KeyError::Certificate)));
        assert_eq!(open(b"", b"", b""), Err(OpenError));
    }
}
