//! Onboarded tenants: what gateways and management points know of them, and the verification of
//! their tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::entra::{EntraError, EntraSubject, EntraToken, subject};
use crate::id::{Guid, Thumbprint};
use crate::jose::{Json, JwkSet, Jws, JwsError, VerifyingKey, shown};
use crate::time::Timestamp;

/// Values of `typ` of a token that opens something (RFC 7519, RFC 9068). A provider signs other
/// things by the same keys, such as a notice that somebody logged out.
const ACCESS_TOKEN_TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];
/// How `iss` of the site's own tokens begins.
const SITE_ISSUER: &str = "urn:sccm:oauth2:";

/// A tenant as gateways and management points know it. Nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedTenant {
    /// `tid`.
    pub tenant: Guid,
    /// Its name, for logs and pages.
    pub name: String,
    /// Accepted `iss`, exactly. Entra has two forms for one tenant.
    pub issuers: Vec<String>,
    /// Accepted `aud`, exactly: the App ID URI, or the server app's id.
    pub audiences: Vec<String>,
    /// The client app that devices ask tokens with.
    pub client_app_id: String,
    /// The resource that they ask tokens for.
    pub resource: String,
    /// Where they ask.
    pub authority: String,
    /// Whether its tokens count.
    pub enabled: bool,
    /// Its signing keys as last fetched.
    pub keys: JwkSet,
    /// Until when these keys count without being fetched anew.
    pub keys_until: Timestamp,
}

/// What `AADAuthInfo` answers for an onboarded tenant; nothing for an unknown or disabled one.
/// The member names are ours [ours].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthInfo {
    /// The tenant asked for.
    #[serde(rename = "TenantId")]
    pub tenant: Guid,
    /// `AADCLIENTAPPID`.
    #[serde(rename = "ClientAppId")]
    pub client_app_id: String,
    /// `AADRESOURCEURI`.
    #[serde(rename = "ResourceUri")]
    pub resource: String,
    /// Where to ask for tokens.
    #[serde(rename = "Authority")]
    pub authority: String,
}

impl PublishedTenant {
    /// What a device is told that wants to ask this tenant for a token; `None` while it is off.
    pub fn auth_info(&self) -> Option<AuthInfo> {
        self.enabled.then(|| AuthInfo {
            tenant: self.tenant,
            client_app_id: self.client_app_id.clone(),
            resource: self.resource.clone(),
            authority: self.authority.clone(),
        })
    }
}

/// A tenant with its keys ready for use.
#[derive(Debug)]
struct Ready {
    tenant: PublishedTenant,
    keys: BTreeMap<String, VerifyingKey>,
}

/// The onboarded tenants, their keys parsed once.
#[derive(Debug, Default)]
pub struct TenantSet {
    tenants: BTreeMap<Guid, Ready>,
}

impl TenantSet {
    /// Makes them ready. A key that cannot be used is passed over, as if it were not there.
    pub fn new<'a>(tenants: impl IntoIterator<Item = &'a PublishedTenant>) -> Self {
        let ready = |tenant: &PublishedTenant| {
            let usable = |key: &crate::jose::Jwk| Some((key.kid.clone(), key.prepare().ok()?));
            let keys = tenant.keys.keys.iter().filter_map(usable).collect();
            (tenant.tenant, Ready { tenant: tenant.clone(), keys })
        };
        Self { tenants: tenants.into_iter().map(ready).collect() }
    }

    /// The tenant with this id.
    pub fn tenant(&self, id: Guid) -> Option<&PublishedTenant> {
        self.tenants.get(&id).map(|ready| &ready.tenant)
    }

    /// Every tenant, by its id.
    pub fn tenants(&self) -> impl Iterator<Item = &PublishedTenant> {
        self.tenants.values().map(|ready| &ready.tenant)
    }

    /// Whether a text could be a tenant's token rather than the site's own: it names a `kid`, or an
    /// issuer that is not the site's. Only tells which verifier to ask; malformed text is left to
    /// the site's.
    pub fn looks_like(text: &str) -> bool {
        Jws::parse(text).is_ok_and(|token| {
            let foreign = |issuer: &str| !issuer.starts_with(SITE_ISSUER);
            token.kid().is_some() || token.unverified_claim("iss").is_some_and(foreign)
        })
    }

    /// Checks form, signature, origin and subject. Not the time: see [`EntraToken::check_time`].
    ///
    /// `tid` is read before the signature, and only to find the keys to verify it with. Everything
    /// malformed is refused before that, and everything that the claims say is judged after it.
    pub fn verify(&self, text: &str) -> Result<EntraToken, EntraError> {
        let token = Jws::parse(text)?;
        if let Some(kind) = token.typ()
            && !ACCESS_TOKEN_TYPES.iter().any(|accepted| accepted.eq_ignore_ascii_case(kind))
        {
            return Err(EntraError::Kind(shown(kind)));
        }
        let tenant = token.unverified_claim("tid").and_then(|tid| tid.parse().ok());
        let ready = tenant.and_then(|tenant: Guid| self.tenants.get(&tenant));
        let ready = ready.ok_or(EntraError::UnknownTenant)?;
        let claims = token.verify_with(ready.key(token.kid())?).map_err(|error| match error {
            JwsError::Signature => EntraError::Signature,
            malformed => EntraError::Malformed(malformed),
        })?;
        ready.accept(claims, text)
    }
}

impl Ready {
    fn key(&self, kid: Option<&str>) -> Result<&VerifyingKey, EntraError> {
        let unknown = || match kid {
            None => EntraError::NoKeyNamed,
            Some(kid) => EntraError::UnknownKey { tenant: self.tenant.tenant, kid: shown(kid) },
        };
        self.keys.get(kid.unwrap_or_default()).ok_or_else(unknown)
    }

    /// Judges claims that this tenant did sign.
    fn accept(&self, claims: &Json, text: &str) -> Result<EntraToken, EntraError> {
        let tenant = &self.tenant;
        let is_one_of = |name, accepted: &[String]| {
            let value = subject::text(claims, name)?.ok_or(EntraError::Claim(name))?;
            if accepted.iter().any(|one| one == value) { Ok(()) } else { Err(EntraError::Foreign(name)) }
        };
        is_one_of("iss", &tenant.issuers)?;
        is_one_of("aud", &tenant.audiences)?;
        // In this very spelling: it was found in any.
        is_one_of("tid", &[tenant.tenant.to_string()])?;
        if !tenant.enabled {
            return Err(EntraError::TenantDisabled(tenant.tenant));
        }
        let moment = |name| {
            let seconds = claims.get(name).and_then(Json::as_i64);
            seconds.map(Timestamp::from_seconds).ok_or(EntraError::Claim(name))
        };
        Ok(EntraToken {
            tenant: tenant.tenant,
            not_before: moment("nbf")?,
            expires: moment("exp")?,
            subject: EntraSubject::from_claims(claims)?,
            keys_until: tenant.keys_until,
            digest: Thumbprint::of(text.as_bytes()),
        })
    }
}
