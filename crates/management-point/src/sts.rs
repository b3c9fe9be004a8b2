//! The token service: a proof of identity becomes a CCM token.

use proto::id::{ClientId, Guid};
use proto::reason::Reason;
use proto::token::{TokenClass, TokenError};
use runtime::telemetry::OneLine;
use serde::Serialize;
use site::{CcmSubject, CcmToken, CcmTokenError};
use tracing::info;

use crate::answer::{Answer, Refusal, Style};
use crate::authenticate::signature::Signed;
use crate::authenticate::token::{self, Presented, Worth};
use crate::authenticate::{asker, via};
use crate::context::Context;
use crate::log::CCM_STS;
use crate::request::Request;

/// What the answer holds (protocol reference 10.5, [ours]).
#[derive(Serialize)]
struct Grant<'t> {
    token_type: &'static str,
    access_token: &'t str,
    /// Seconds.
    expires_in: u64,
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
        "Incoming request URL: http://{}{}",
        context.name,
        request.endpoint.path
    );
    let presented = token::present(context, request).inspect_err(log_refusal)?;
    let Some(presented) = presented else {
        return Err(Refusal::new(Reason::StsTokenMissing, "no token")).inspect_err(log_refusal);
    };
    match exchange(context, request, signed, &presented).await {
        Ok((subject, token)) => {
            if let CcmSubject::Device { device, .. } = subject {
                context.site.record_seen(device, via(request));
            }
            log_grant(context, subject, &token);
            let grant = Grant {
                token_type: "CCM",
                access_token: &token.text,
                expires_in: token.expires_in.as_secs(),
            };
            // A struct of strings and a number always has a JSON form.
            Ok(Answer::json(serde_json::to_string(&grant).expect("plain data has a JSON form")))
        }
        Err(refusal) => {
            log_failure(context, &presented, &refusal);
            Err(refusal)
        }
    }
}

async fn exchange(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    presented: &Presented,
) -> Result<(CcmSubject, CcmToken), Refusal> {
    let refused = |detail: &str| Refusal::new(Reason::StsTokenNotAccepted, detail);
    let by_headers = asker::by_headers(context, request, Reason::StsTokenNotAccepted).await?;
    asker::one_device(context, request, signed, by_headers.as_ref(), Some(presented)).await?;
    let shown =
        signed.map(|signed| signed.key).or(by_headers.as_ref().map(|device| device.signing_thumbprint));
    if presented.judge(context, request, shown)? == Worth::NoMoreThanNothing {
        return Err(refused("the key of the token was not proved"));
    }
    let subject = match presented.token.class {
        TokenClass::Bulk => {
            // The token that is given must be bound to something.
            let key = shown.ok_or_else(|| refused("a bulk registration token needs a signed request"))?;
            CcmSubject::Stranger { bulk_token: presented.token.unique_id, key }
        }
        TokenClass::SelfProve => {
            let device = presented.device().ok_or_else(|| refused("a self-prove token without a device"))?;
            check_signing(context, device, signed).await?;
            // Without a shown key only `token_binding = off` comes here.
            let key =
                shown.or(presented.token.confirmation).ok_or_else(|| refused("a token without a key"))?;
            CcmSubject::Device { device, key }
        }
        // The endpoint table takes identities only.
        TokenClass::PreAuth | TokenClass::Device | TokenClass::User => {
            return Err(refused("a token that came from here buys no other"));
        }
    };
    let token = context.site.issue_ccm_token(subject).await.map_err(|error| denied(&error, subject))?;
    Ok((subject, token))
}

/// A device that signs its requests signs this one, too (settled point 13).
async fn check_signing(context: &Context, device: ClientId, signed: Option<&Signed>) -> Result<(), Refusal> {
    if signed.is_some() {
        return Ok(());
    }
    let found =
        context.site.find_device(device).await.map_err(|error| crate::site_error::database(&error))?;
    if found.is_some_and(|found| found.signs_requests) || context.site.settings().require_signed_requests {
        return Err(Refusal::new(Reason::SignatureRequired, "the request is not signed").of(device));
    }
    Ok(())
}

fn denied(error: &CcmTokenError, subject: CcmSubject) -> Refusal {
    let refusal = Refusal::caused(error.reason(), error);
    match subject {
        CcmSubject::Device { device, .. } => refusal.of(device),
        CcmSubject::Stranger { .. } => refusal,
    }
}

fn log_grant(context: &Context, subject: CcmSubject, token: &CcmToken) {
    let device = match subject {
        CcmSubject::Device { device, .. } => device,
        CcmSubject::Stranger { .. } => ClientId::new(Guid::nil()),
    };
    let (_, kind) = token.class.pair();
    info!(
        component = CCM_STS,
        verbatim = true,
        "Created SCCM token, token type: {kind}, hierarchyId: {}, userId: {}, deviceId: {device}",
        context.site.facts().hierarchy,
        Guid::nil(),
    );
    info!(component = CCM_STS, verbatim = true, "Issued token");
    info!(component = CCM_STS, verbatim = true, "Return token to client");
    info!(component = CCM_STS, device = ?device, kind, until = %token.expires, "CCM token given");
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
        _ => log_refusal(refusal),
    }
}

fn log_refusal(refusal: &Refusal) {
    info!(
        component = CCM_STS,
        verbatim = true,
        "Return code: {}, Description: PreAuth token validation failed, {} ({})",
        status(refusal),
        OneLine(&refusal.detail),
        refusal.reason,
    );
}

fn status(refusal: &Refusal) -> u16 {
    refusal.answer(Style::TokenService).status.as_u16()
}
