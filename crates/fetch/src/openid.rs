//! A provider's discovery document and keys (R12, R13).

use std::time::Duration;

use bytes::Bytes;
use proto::jose::{JwkError, JwkSet};
use proto::limits::KEY_SET_BYTES;
use serde::Deserialize;

use crate::outbound::{FetchError, Outbound};

/// Time for each of the two answers.
pub const TIME: Duration = Duration::from_secs(10);
/// Where the document is, below the authority.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// Longest issuer or address taken from a document, in bytes.
const ADDRESS_BYTES: usize = 2_048;

/// What of the discovery document matters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Document {
    /// `iss` of the provider's tokens.
    pub issuer: String,
    /// Where its keys are.
    pub jwks_uri: String,
    /// Where tokens are asked for.
    #[serde(default)]
    pub token_endpoint: Option<String>,
}

/// A provider's keys, and what it calls itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its issuers: the one in its document; when none was known before, also that of its other
    /// form, where it has one.
    pub issuers: Vec<String>,
    /// Its keys; never none.
    pub keys: JwkSet,
}

/// Keys were not fetched. Known ones go on.
#[derive(Debug, thiserror::Error)]
pub enum OpenIdError {
    /// No document.
    #[error("discovery document not fetched")]
    Document(#[source] FetchError),
    /// It is something else.
    #[error("{0} is no discovery document")]
    NotADocument(&'static str),
    /// It speaks for somebody else.
    #[error("the discovery document names the issuer {found:?}, and none such is accepted")]
    Issuer {
        /// What it names, at most 200 characters.
        found: String,
    },
    /// It speaks for all tenants of a service.
    #[error("the authority speaks for all tenants; name that of one, with the tenant's id in it")]
    ManyTenants,
    /// Keys must come over verified TLS.
    #[error("the discovery document's address of keys does not begin with https://")]
    KeysAddress,
    /// No keys.
    #[error("keys not fetched")]
    Keys(#[source] FetchError),
    /// A page for people where keys should be: a proxy or a captive portal.
    #[error("a web page came where keys should be")]
    KeysAreAPage,
    /// Not a key set, or without a usable key.
    #[error("the key set cannot be used")]
    KeySet(#[from] JwkError),
}

/// Fetches the document of an authority.
pub async fn fetch_document(outbound: &Outbound, authority: &str) -> Result<Document, OpenIdError> {
    let url = format!("{}{WELL_KNOWN}", authority.trim_end_matches('/'));
    let answer = outbound.get(&url, KEY_SET_BYTES, TIME).await.map_err(OpenIdError::Document)?;
    let is_html = answer.is_html;
    let body = answer.ok().map_err(OpenIdError::Document)?;
    if is_html {
        return Err(OpenIdError::NotADocument("a web page"));
    }
    read_document(&body)
}

/// Fetches document and keys. `accepted` are the issuers that count; empty when none are known yet.
pub async fn fetch_keys(
    outbound: &Outbound,
    authority: &str,
    accepted: &[String],
) -> Result<Fetched, OpenIdError> {
    let document = fetch_document(outbound, authority).await?;
    check_issuer(&document, accepted)?;
    let answer = outbound.get(&document.jwks_uri, KEY_SET_BYTES, TIME).await.map_err(OpenIdError::Keys)?;
    let is_html = answer.is_html;
    let body = answer.ok().map_err(OpenIdError::Keys)?;
    if is_html {
        return Err(OpenIdError::KeysAreAPage);
    }
    let keys = JwkSet::parse(&body)?;
    if keys.keys.is_empty() {
        return Err(JwkError::Empty.into());
    }
    let mut issuers = vec![document.issuer];
    if accepted.is_empty() {
        issuers.extend(other_form(outbound, authority).await);
        issuers.dedup();
    }
    Ok(Fetched { issuers, keys })
}

/// The issuer of the other form of tokens, when the authority has one: some services sign tokens
/// of two versions with one set of keys, and call themselves differently in each. Asked only while
/// the issuers of a tenant are learnt; that there is none is the usual case.
async fn other_form(outbound: &Outbound, authority: &str) -> Option<String> {
    let authority = authority.trim_end_matches('/');
    let other = match authority.strip_suffix("/v2.0") {
        Some(first) => first.to_owned(),
        None => format!("{authority}/v2.0"),
    };
    let document = fetch_document(outbound, &other).await.ok()?;
    check_issuer(&document, &[]).ok()?;
    Some(document.issuer)
}

fn read_document(body: &Bytes) -> Result<Document, OpenIdError> {
    let document: Document =
        serde_json::from_slice(body).map_err(|_| OpenIdError::NotADocument("the answer"))?;
    let lengths = [&document.issuer, &document.jwks_uri].map(String::len);
    if lengths.iter().any(|length| !(1..=ADDRESS_BYTES).contains(length)) {
        return Err(OpenIdError::NotADocument("what it says"));
    }
    if !document.jwks_uri.starts_with("https://") {
        return Err(OpenIdError::KeysAddress);
    }
    Ok(document)
}

fn check_issuer(document: &Document, accepted: &[String]) -> Result<(), OpenIdError> {
    // `…/{tenantid}/v2.0` stands in the document of `…/common`.
    if document.issuer.contains('{') {
        return Err(OpenIdError::ManyTenants);
    }
    if accepted.is_empty() || accepted.contains(&document.issuer) {
        return Ok(());
    }
    Err(OpenIdError::Issuer { found: document.issuer.chars().take(200).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Document, OpenIdError> {
        read_document(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_document_needs_an_issuer_and_an_address_of_keys_over_tls() {
        let good = r#"{"issuer":"https://i/","jwks_uri":"https://i/keys","more":[1]}"#;
        assert_eq!(read(good).unwrap().issuer, "https://i/");
        for wrong in [
            "",
            "[]",
            "<!doctype html>",
            r#"{"issuer":"https://i/"}"#,
            r#"{"issuer":"","jwks_uri":"https://i/keys"}"#,
            r#"{"issuer":7,"jwks_uri":"https://i/keys"}"#,
        ] {
            assert!(matches!(read(wrong), Err(OpenIdError::NotADocument(_))), "{wrong}");
        }
        let plain = r#"{"issuer":"https://i/","jwks_uri":"http://i/keys"}"#;
        assert!(matches!(read(plain), Err(OpenIdError::KeysAddress)));
    }

    #[test]
    fn an_issuer_is_accepted_by_its_exact_name() {
        let document = read(r#"{"issuer":"https://i/t","jwks_uri":"https://i/keys"}"#).unwrap();
        assert!(check_issuer(&document, &[]).is_ok(), "learnt");
        assert!(check_issuer(&document, &["https://i/t".to_owned()]).is_ok());
        for other in ["https://i/t/", "https://i/", "HTTPS://i/t"] {
            let refused = check_issuer(&document, &[other.to_owned()]);
            assert!(matches!(refused, Err(OpenIdError::Issuer { .. })), "{other}");
        }
        let common = read(r#"{"issuer":"https://i/{tenantid}/v2.0","jwks_uri":"https://i/k"}"#).unwrap();
        assert!(matches!(check_issuer(&common, &[]), Err(OpenIdError::ManyTenants)));
    }
}
