//! Sign-in of a user on another machine: the device shows a code, the user types it into a page.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use proto::id::Guid;
use proto::time::Timestamp;
use serde_json::json;

use crate::form::Form;
use crate::refusal::Refusal;
use crate::state::{REMEMBERED, Shared, Tenant, secret_text};

/// Letters and digits that are not mistaken for one another when read aloud.
const CODE_ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_LENGTH: usize = 9;

/// A sign-in under way.
#[derive(Debug)]
pub(crate) struct SignIn {
    /// What the user types.
    pub(crate) user_code: String,
    expires: Timestamp,
    asked: Option<Timestamp>,
    pub(crate) decision: Decision,
}

/// What became of a sign-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Waiting,
    Approved(Guid),
    Denied,
}

/// `POST /{tenant}/oauth2/v2.0/devicecode`, and the same without `v2.0`.
pub(crate) async fn begin(
    State(shared): State<Arc<Shared>>,
    Path(segment): Path<String>,
    body: String,
) -> Response {
    let (now, form) = (shared.now(), Form::parse(&body));
    let begun = shared.tenant_of_path(&segment, |tenant| {
        let app = form.get("client_id").ok_or_else(|| Refusal::missing("client_id"))?;
        if app.parse() != Ok(tenant.config.client_app) {
            return Err(Refusal::unknown_app(app));
        }
        let (device_code, user_code) = open(tenant, now);
        let page = format!("{}/{}/device", shared.base, tenant.config.tenant);
        let message = format!("To sign in, open the page {page} and enter the code {user_code}.");
        Ok(Json(json!({
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": page,
            "expires_in": tenant.config.code_lifetime,
            "interval": tenant.config.poll_interval,
            "message": message,
        }))
        .into_response())
    });
    begun.unwrap_or_else(|refusal| refusal.answer(now))
}

/// Opens a sign-in: device code and user code.
fn open(tenant: &mut Tenant, now: Timestamp) -> (String, String) {
    tenant.codes.retain(|_, code| code.expires.plus(Duration::from_hours(1)) > now);
    if tenant.codes.len() >= REMEMBERED {
        tenant.codes.clear();
    }
    let (device_code, user_code) = (secret_text(), user_code());
    let expires = now.plus(Duration::from_secs(tenant.config.code_lifetime));
    let code = SignIn { user_code: user_code.clone(), expires, asked: None, decision: Decision::Waiting };
    tenant.codes.insert(device_code.clone(), code);
    (device_code, user_code)
}

/// The user behind a device code, once; or why not yet.
pub(crate) fn redeem(tenant: &mut Tenant, device_code: &str, now: Timestamp) -> Result<Guid, Refusal> {
    let interval = Duration::from_secs(tenant.config.poll_interval);
    let unknown = || Refusal::bad("bad_verification_code", 70_019, "The device code is not known.");
    let code = tenant.codes.get_mut(device_code).ok_or_else(unknown)?;
    if code.expires <= now {
        return Err(Refusal::bad("expired_token", 70_020, "The device code has ended."));
    }
    let hurried = code.asked.replace(now).is_some_and(|asked| now.since(asked) < interval);
    match code.decision {
        Decision::Approved(user) => {
            tenant.codes.remove(device_code);
            Ok(user)
        }
        Decision::Denied => {
            Err(Refusal::bad("authorization_declined", 70_018, "The user declined the sign-in."))
        }
        Decision::Waiting if hurried => Err(Refusal::bad("slow_down", 70_017, "Asked too often.")),
        Decision::Waiting => {
            Err(Refusal::bad("authorization_pending", 70_016, "The user has not signed in yet."))
        }
    }
}

/// Decides the open sign-in with this user code; `false` when there is none.
pub(crate) fn decide(tenant: &mut Tenant, user_code: &str, decision: Decision, now: Timestamp) -> bool {
    let typed: String = user_code.chars().filter(char::is_ascii_alphanumeric).collect();
    let open = tenant.codes.values_mut().find(|code| {
        code.expires > now
            && code.decision == Decision::Waiting
            && code.user_code.eq_ignore_ascii_case(&typed)
    });
    let Some(code) = open else { return false };
    code.decision = decision;
    true
}

/// User codes that wait for a user.
pub(crate) fn waiting(tenant: &Tenant, now: Timestamp) -> Vec<String> {
    let open = tenant.codes.values();
    let open = open.filter(|code| code.expires > now && code.decision == Decision::Waiting);
    open.map(|code| code.user_code.clone()).collect()
}

fn user_code() -> String {
    let mut bytes = [0; CODE_LENGTH];
    runtime::id::fill(&mut bytes);
    bytes.iter().map(|byte| char::from(CODE_ALPHABET[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{TenantConfig, UserSeed};

    const USER: Guid = Guid::from_bytes([1; 16]);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    fn tenant() -> Tenant {
        let mut config = TenantConfig::new(Guid::from_bytes([7; 16]), "Contoso");
        config.users.push(UserSeed::cloud(USER, "a@contoso.example", "A"));
        Tenant::make(config).unwrap()
    }

    fn answer(tenant: &mut Tenant, code: &str, seconds: i64) -> Result<Guid, &'static str> {
        redeem(tenant, code, at(seconds)).map_err(|refusal| refusal.error())
    }

    #[test]
    fn a_code_waits_then_gives_its_user_once() {
        let mut tenant = tenant();
        let (device, user) = open(&mut tenant, at(0));
        assert_eq!(waiting(&tenant, at(0)), [user.as_str()]);
        assert_eq!(answer(&mut tenant, &device, 0), Err("authorization_pending"));
        assert_eq!(answer(&mut tenant, &device, 4), Err("slow_down"));
        assert_eq!(answer(&mut tenant, &device, 9), Err("authorization_pending"));
        let typed = format!(" {}-{} ", &user[..4].to_ascii_lowercase(), &user[4..]);
        assert!(decide(&mut tenant, &typed, Decision::Approved(USER), at(10)));
        assert!(!decide(&mut tenant, &user, Decision::Denied, at(10)), "decided already");
        assert_eq!(answer(&mut tenant, &device, 10), Ok(USER));
        assert_eq!(answer(&mut tenant, &device, 15), Err("bad_verification_code"), "used");
    }

    #[test]
    fn a_code_ends_and_can_be_declined() {
        let mut tenant = tenant();
        let (device, user) = open(&mut tenant, at(0));
        assert!(!decide(&mut tenant, &user, Decision::Approved(USER), at(900)), "too late");
        assert_eq!(answer(&mut tenant, &device, 900), Err("expired_token"));
        let (device, user) = open(&mut tenant, at(0));
        assert!(decide(&mut tenant, &user, Decision::Denied, at(1)));
        assert_eq!(answer(&mut tenant, &device, 5), Err("authorization_declined"));
    }
}
