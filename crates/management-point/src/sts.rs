//! The token service: a proof of identity becomes a CCM token.
//!
//! | proof | module |
//! |---|---|
//! | bulk registration token with a fresh key, self-prove token with the registered one | [`site_token`] |
//! | token of an onboarded tenant, the request signed | [`entra`] |
//! | client certificate of a trusted PKI, the request signed | [`certificate`] |

mod certificate;
mod entra;
mod site_token;

use proto::endpoint::Caller;
use proto::entra::TenantSet;
use proto::id::{ClientId, Guid};
use proto::reason::Reason;
use proto::token::{TokenClass, TokenError};
use runtime::telemetry::OneLine;
use serde::Serialize;
use site::{CcmSubject, CcmToken, CcmTokenError, Device};
use tracing::info;

use crate::answer::{Answer, Refusal, Style};
use crate::authenticate;
use crate::authenticate::signature::Signed;
use crate::authenticate::token::{self, Presented};
use crate::context::Context;
use crate::log::CCM_STS;
use crate::request::Request;
pub(crate) use entra::check_entra_device;

/// What the answer holds (protocol reference 10.5, [ours]).
#[derive(Serialize)]
struct Grant<'t> {
    token_type: &'static str,
    access_token: &'t str,
    /// Seconds.
    expires_in: u64,
}

/// A token that was given, and to whom.
struct Granted {
    token: CcmToken,
    /// The device, once the key is registered.
    device: Option<ClientId>,
    /// The user, where the token is one's.
    user: Option<Guid>,
}

/// With what somebody comes.
enum Asked<'r> {
    Site(Box<Presented>),
    Entra(&'r str),
    Certificate,
}

/// Answers `GET /CCM_STS`.
pub(crate) async fn issue(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
) -> Result<Answer, Refusal> {
    info!(component = CCM_STS, verbatim = true, "ProcessRequest - Start");
    info!(
        component = CCM_STS,
        verbatim = true,
        "Incoming request URL: {}://{}{}",
        request.transport.scheme(),
        context.name_for(&request.transport),
        request.endpoint.path
    );
    let asked = asked(context, request).inspect_err(|refusal| log_refusal(TokenKind::PreAuth, refusal))?;
    let granted = match &asked {
        Asked::Site(presented) => site_token::exchange(context, request, signed, presented)
            .await
            .inspect_err(|refusal| log_failure(context, presented, refusal)),
        Asked::Entra(text) => entra::exchange(context, request, signed, text)
            .await
            .inspect_err(|refusal| log_refusal(TokenKind::Aad, refusal)),
        Asked::Certificate => certificate::exchange(context, request, signed)
            .await
            .inspect_err(|refusal| log_refusal(TokenKind::Certificate, refusal)),
    }?;
    log_grant(context, &granted);
    let grant = Grant {
        token_type: "CCM",
        access_token: &granted.token.text,
        expires_in: granted.token.expires_in.as_secs(),
    };
    // A struct of strings and a number always has a JSON form.
    Ok(Answer::json(serde_json::to_string(&grant).expect("plain data has a JSON form")))
}

/// Reads with what somebody comes. Which verifier a token goes to says nothing about it yet.
fn asked<'r>(context: &Context, request: &'r Request) -> Result<Asked<'r>, Refusal> {
    let refused = |what: &str| Refusal::new(Reason::StsTokenNotAccepted, format!("{what} is not taken here"));
    match token::text(request, Reason::StsTokenNotAccepted)? {
        Some(text) if TenantSet::looks_like(text) => {
            let is_taken = request.is_open_to(Caller::Entra);
            if is_taken { Ok(Asked::Entra(text)) } else { Err(refused("a tenant's token")) }
        }
        Some(_) => {
            let presented = token::present(context, request)?;
            let none = || Refusal::new(Reason::StsTokenMissing, "no token");
            presented.map(|presented| Asked::Site(Box::new(presented))).ok_or_else(none)
        }
        None if request.is_open_to(Caller::Certificate) => Ok(Asked::Certificate),
        None => Err(Refusal::new(Reason::StsTokenMissing, "no token")),
    }
}

/// A blocked device is told so before anything else about it.
fn check_unblocked(context: &Context, device: Option<&Device>) -> Result<(), Refusal> {
    match device {
        Some(device) if device.blocked => {
            Err(Refusal::new(Reason::StsDeviceBlocked, "the device is blocked").of(device.id))
        }
        Some(device) => authenticate::certificate::check_recorded(context, device),
        None => Ok(()),
    }
}

/// Has the site make the token. `device` is the one whose key was proved.
async fn make(context: &Context, subject: CcmSubject, device: Option<ClientId>) -> Result<CcmToken, Refusal> {
    context.site.issue_ccm_token(subject).await.map_err(|error: CcmTokenError| {
        let refusal = Refusal::caused(error.reason(), &error);
        match device {
            Some(device) => refusal.of(device),
            None => refusal,
        }
    })
}

fn log_grant(context: &Context, granted: &Granted) {
    let device = granted.device.unwrap_or(ClientId::new(Guid::nil()));
    let (_, kind) = granted.token.class.pair();
    info!(
        component = CCM_STS,
        verbatim = true,
        "Created SCCM token, token type: {kind}, hierarchyId: {}, userId: {}, deviceId: {device}",
        context.site.facts().hierarchy,
        granted.user.filter(|_| granted.token.class == TokenClass::User).unwrap_or(Guid::nil()),
    );
    info!(component = CCM_STS, verbatim = true, "Issued token");
    info!(component = CCM_STS, verbatim = true, "Return token to client");
    info!(component = CCM_STS, device = ?device, kind, until = %granted.token.expires, "CCM token given");
}

/// The field's line for a token past its end; ours for everything else.
fn log_failure(context: &Context, presented: &Presented, refusal: &Refusal) {
    match presented.token.check_time(context.now()) {
        Err(TokenError::Expired { expired, now }) => info!(
            component = CCM_STS,
            verbatim = true,
            "Return code: {}, Description: PreAuth token validation failed, \
             System.IdentityModel.Tokens.SecurityTokenExpiredException: IDX10223: Lifetime validation failed. \
             The token is expired. ValidTo: '{}' Current time: '{}'.",
            status(refusal),
            expired.us(),
            now.us(),
        ),
        _ => log_refusal(TokenKind::PreAuth, refusal),
    }
}

/// What failed, as the field's line begins.
#[derive(Clone, Copy)]
enum TokenKind {
    PreAuth,
    Aad,
    Certificate,
}

fn log_refusal(kind: TokenKind, refusal: &Refusal) {
    let what = match kind {
        TokenKind::PreAuth => "PreAuth token",
        TokenKind::Aad => "AAD token",
        TokenKind::Certificate => "Client certificate",
    };
    info!(
        component = CCM_STS,
        verbatim = true,
        "Return code: {}, Description: {what} validation failed, {} ({})",
        status(refusal),
        OneLine(&refusal.detail),
        refusal.reason,
    );
}

fn status(refusal: &Refusal) -> u16 {
    refusal.answer(Style::TokenService).status.as_u16()
}
