//! Whom a tenant's token speaks for, by its claims.

use crate::entra::EntraError;
use crate::id::Guid;
use crate::jose::Json;
use crate::limits;

/// Longest SID in characters: a revision, an authority and fifteen numbers.
const SID_CHARS: usize = 184;
/// Claims that only a user's token has, besides `scp`.
const USER_MARKS: [&str; 4] = ["upn", "preferred_username", "unique_name", "onprem_sid"];

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntraSubject {
    /// A device and nobody on it (`Device`).
    Device {
        /// The device's id in the tenant.
        device: Guid,
    },
    /// A user, on a device where the token names one (`UDA`).
    User {
        /// The user's object id.
        user: Guid,
        /// The device's id in the tenant.
        device: Option<Guid>,
        /// The user's on-premises SID: a hybrid user.
        sid: Option<String>,
        /// The user's principal name, for people; the object id where the token has no name.
        name: String,
    },
}

impl EntraSubject {
    /// The device that it names, if it names one.
    pub const fn device(&self) -> Option<Guid> {
        match self {
            Self::Device { device } => Some(*device),
            Self::User { device, .. } => *device,
        }
    }

    /// The user that it speaks for, if it speaks for one.
    pub const fn user(&self) -> Option<Guid> {
        match self {
            Self::Device { .. } => None,
            Self::User { user, .. } => Some(*user),
        }
    }

    /// Reads the subject of verified claims. `idtyp` decides where it is present; else:
    ///
    /// | claims | subject |
    /// |---|---|
    /// | `idtyp` `app` | none: an app's own token |
    /// | `idtyp` `device`, `deviceid`, no `scp` | the device |
    /// | `idtyp` `user`, `oid` | the user |
    /// | no `idtyp`, `scp` (delegated rights), `oid` | the user |
    /// | no `idtyp`, no `scp`, `deviceid`, nothing that only users or apps have | the device |
    /// | anything else | none |
    ///
    /// What only users have are their names (`upn`, `preferred_username`, `unique_name`) and their
    /// `onprem_sid`, what only apps have is `roles`. A device token's own `oid` is that of the
    /// device's object and says nothing. An app without `idtyp` has no `deviceid`, so it is none.
    pub(super) fn from_claims(claims: &Json) -> Result<Self, EntraError> {
        let kind = text(claims, "idtyp")?;
        let scope = text(claims, "scp")?;
        let device = guid(claims, "deviceid")?;
        let is_user = |fallback| match guid(claims, "oid")? {
            Some(user) => Self::user_of(claims, user, device),
            None => Err(EntraError::NoSubject(fallback)),
        };
        match (kind, scope, device) {
            (Some("app"), ..) => Err(EntraError::NoSubject("it is an app's own (idtyp app)")),
            (Some("user"), ..) => is_user("it is a user's, and names none (oid)"),
            (None, Some(_), _) => is_user("it has a user's scope, and names no user (oid)"),
            (Some("device"), Some(_), _) => {
                Err(EntraError::NoSubject("it is a device's, and has a user's scope (scp)"))
            }
            (Some("device"), None, None) => {
                Err(EntraError::NoSubject("it is a device's, and names none (deviceid)"))
            }
            (Some("device"), None, Some(device)) => Ok(Self::Device { device }),
            (Some(_), ..) => Err(EntraError::NoSubject("its kind (idtyp) is unknown")),
            (None, None, Some(_)) if has(claims, &["roles"]) => {
                Err(EntraError::NoSubject("it has an app's rights (roles)"))
            }
            (None, None, Some(_)) if has(claims, &USER_MARKS) => {
                Err(EntraError::NoSubject("it names a user, and has no user's scope (scp)"))
            }
            (None, None, Some(device)) => Ok(Self::Device { device }),
            (None, None, None) if has(claims, &["appid", "azp"]) => {
                Err(EntraError::NoSubject("it is an app's own: neither device (deviceid) nor scope (scp)"))
            }
            (None, None, None) => Err(EntraError::NoSubject("neither device (deviceid) nor scope (scp)")),
        }
    }

    fn user_of(claims: &Json, user: Guid, device: Option<Guid>) -> Result<Self, EntraError> {
        let sid = text(claims, "onprem_sid")?;
        if sid.is_some_and(|sid| !is_sid(sid)) {
            return Err(EntraError::Claim("onprem_sid"));
        }
        let name = match text(claims, "upn")? {
            Some(name) => Some(name),
            None => text(claims, "preferred_username")?,
        };
        // It is written to logs and pages (R28).
        if name
            .is_some_and(|name| name.chars().count() > limits::NAME_CHARS || name.contains(char::is_control))
        {
            return Err(EntraError::Claim("upn"));
        }
        let name = name.map_or_else(|| user.to_string(), str::to_owned);
        Ok(Self::User { user, device, sid: sid.map(str::to_owned), name })
    }
}

/// A text claim. Present, it must be a text and not an empty one.
pub(super) fn text<'c>(claims: &'c Json, name: &'static str) -> Result<Option<&'c str>, EntraError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(EntraError::Claim(name)),
    }
}

/// An id. The one of zeros is nobody's.
fn guid(claims: &Json, name: &'static str) -> Result<Option<Guid>, EntraError> {
    let Some(text) = text(claims, name)? else { return Ok(None) };
    let id: Guid = text.parse().map_err(|_| EntraError::Claim(name))?;
    if text.starts_with('{') || id == Guid::nil() { Err(EntraError::Claim(name)) } else { Ok(Some(id)) }
}

fn has(claims: &Json, names: &[&str]) -> bool {
    names.iter().any(|name| claims.get(name).is_some())
}

fn is_sid(text: &str) -> bool {
    text.len() <= SID_CHARS
        && text.strip_prefix("S-1-").is_some_and(|numbers| {
            numbers.split('-').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DEVICE: &str = "8d2b4ff9-0172-4998-9851-b5324303385f";
    const USER: &str = "e8838041-db7a-42d5-b9ae-78813910e4cc";

    fn of(claims: &Json) -> Result<EntraSubject, EntraError> {
        EntraSubject::from_claims(claims)
    }

    fn is_nobody(claims: &Json) -> bool {
        matches!(of(claims), Err(EntraError::NoSubject(_)))
    }

    #[test]
    fn a_device_is_who_says_which_and_nothing_else() {
        let device = Ok(EntraSubject::Device { device: DEVICE.parse().unwrap() });
        assert_eq!(of(&json!({"idtyp": "device", "deviceid": DEVICE})), device);
        assert_eq!(of(&json!({"idtyp": "device", "deviceid": DEVICE, "oid": USER, "appid": "x"})), device);
        assert_eq!(of(&json!({"deviceid": DEVICE, "appid": "x"})), device);
        for nobody in [
            json!({"idtyp": "device"}),
            json!({"idtyp": "device", "oid": DEVICE}),
            json!({"idtyp": "device", "deviceid": DEVICE, "scp": "user_impersonation"}),
            json!({"deviceid": DEVICE, "upn": "a@example.org"}),
            json!({"deviceid": DEVICE, "preferred_username": "a@example.org"}),
            json!({"deviceid": DEVICE, "onprem_sid": "S-1-5-21-1"}),
            json!({"deviceid": DEVICE, "roles": ["Directory.Read.All"]}),
            json!({"idtyp": "Device", "deviceid": DEVICE}),
        ] {
            assert!(is_nobody(&nobody), "{nobody}");
        }
    }

    #[test]
    fn an_app_is_neither_device_nor_user() {
        for app in [
            json!({"idtyp": "app", "appid": "x"}),
            json!({"idtyp": "app", "appid": "x", "oid": USER, "deviceid": DEVICE, "scp": "user_impersonation"}),
            json!({"appid": "x", "oid": USER}),
            json!({"azp": "x", "oid": USER, "roles": ["a"]}),
            json!({"oid": USER}),
            json!({}),
        ] {
            assert!(is_nobody(&app), "{app}");
        }
    }

    #[test]
    fn a_user_comes_with_the_device_the_sid_and_the_name_that_the_token_has() {
        let claims = json!({
            "oid": USER, "scp": "user_impersonation", "deviceid": DEVICE, "upn": "a@example.org",
            "onprem_sid": "S-1-5-21-1527250992-855612568-2252598708-1604",
        });
        let user = EntraSubject::User {
            user: USER.parse().unwrap(),
            device: Some(DEVICE.parse().unwrap()),
            sid: Some("S-1-5-21-1527250992-855612568-2252598708-1604".into()),
            name: "a@example.org".into(),
        };
        assert_eq!((user.user(), user.device()), (USER.parse().ok(), DEVICE.parse().ok()));
        assert_eq!(of(&claims), Ok(user));
        let bare =
            EntraSubject::User { user: USER.parse().unwrap(), device: None, sid: None, name: USER.into() };
        assert_eq!(of(&json!({"oid": USER, "idtyp": "user"})), Ok(bare));
        assert!(is_nobody(&json!({"scp": "user_impersonation", "deviceid": DEVICE})));
        assert!(is_nobody(&json!({"idtyp": "user", "deviceid": DEVICE})));
    }

    #[test]
    fn claims_of_another_type_than_they_must_be_are_refused() {
        for (claim, value) in [
            ("idtyp", json!(1)),
            ("scp", json!(["user_impersonation"])),
            ("scp", json!("")),
            ("deviceid", json!(null)),
            ("deviceid", json!("00000000-0000-0000-0000-000000000000")),
            ("deviceid", json!(format!("{{{DEVICE}}}"))),
            ("deviceid", json!(format!("{DEVICE} "))),
            ("oid", json!([USER])),
            ("oid", json!("nobody")),
            ("onprem_sid", json!("S-1-")),
            ("onprem_sid", json!("S-1-5' OR 1=1")),
            ("upn", json!("a\nb@example.org")),
            ("upn", json!("a".repeat(limits::NAME_CHARS + 1))),
        ] {
            let mut claims = json!({"oid": USER, "scp": "user_impersonation", "deviceid": DEVICE});
            claims[claim] = value;
            assert_eq!(of(&claims), Err(EntraError::Claim(claim)), "{claims}");
        }
    }
}
