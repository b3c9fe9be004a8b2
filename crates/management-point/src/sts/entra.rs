//! Tokens of onboarded tenants. The gateway has verified them; that says nothing here (R39).

use proto::combination::{Scenario, judge};
use proto::entra::{EntraError, EntraSubject, EntraToken};
use proto::id::Guid;
use proto::identity::Method;
use proto::reason::Reason;
use proto::token::EntraOrigin;
use site::{CcmSubject, Device, JudgeUserError};
use tracing::info;

use super::{Granted, check_unblocked, make};
use crate::answer::Refusal;
use crate::authenticate::signature::Signed;
use crate::authenticate::{check_peer, note_seen};
use crate::context::Context;
use crate::log::CCM_STS;
use crate::request::{Request, Transport};

/// Exchanges one. A bearer alone gets nothing: the token must come with a key that signed this very
/// request, to which the token that is given will be bound.
pub(super) async fn exchange(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    text: &str,
) -> Result<Granted, Refusal> {
    let signed = signed.ok_or_else(|| {
        Refusal::new(Reason::StsTokenNotAccepted, "a tenant's token with a request that is not signed")
    })?;
    // The key is proved, but a forger has one, too: until the tenant's signature holds, the reason is
    // the same for everything.
    let about = |refusal: Refusal| {
        let refusal = refusal.by(signed.key);
        match signed.client() {
            Some(device) => refusal.of(device),
            None => refusal,
        }
    };
    let token = verify(context, text).map_err(about)?;
    if matches!(request.transport, Transport::Plain) {
        // Whoever reads along could spend it elsewhere, with a key of his own.
        let detail = "a tenant's token over plain HTTP; ask by HTTPS";
        return Err(about(Refusal::new(Reason::MethodNotForMode, detail)));
    }
    let origin = origin(&token);
    log_validated(&token);
    check_unblocked(context, signed.device.as_ref())?;
    if let Some(device) = &signed.device {
        check_peer(context, request, device, Some(signed)).await?;
        check_entra_device(device, origin)?;
    }
    let method = if origin.user.is_some() { Method::EntraUser } else { Method::EntraDevice };
    judge(context.manner().mode, method, None, request.way(), Scenario::Device)
        .map_err(|refused| about(Refusal::caused(refused.reason, &refused)))?;
    if let EntraSubject::User { user, sid, .. } = &token.subject {
        judge_user(context, token.tenant, *user, sid.as_deref()).await.map_err(about)?;
    }
    let subject = CcmSubject::Entra { origin, key: signed.key };
    let given = make(context, subject, signed.client()).await.map_err(about)?;
    if let Some(device) = &signed.device {
        note_seen(context, request, device, Some(signed));
    }
    Ok(Granted { token: given, device: signed.client(), user: origin.user })
}

fn verify(context: &Context, text: &str) -> Result<EntraToken, Refusal> {
    let refused = |error: EntraError| {
        if let EntraError::UnknownKey { tenant, .. } = &error {
            context.site.want_keys(*tenant);
        }
        Refusal::caused(error.reason_at_token_service(), &error)
    };
    let token = context.site.tenant_set().verify(text).map_err(refused)?;
    token.check_time(context.now()).map_err(refused)?;
    Ok(token)
}

/// Whom the token names, as the CCM token will say.
fn origin(token: &EntraToken) -> EntraOrigin {
    let (user, device) = match &token.subject {
        EntraSubject::Device { device } => (None, Some(*device)),
        EntraSubject::User { user, device, .. } => (Some(*user), *device),
    };
    EntraOrigin { tenant: token.tenant, device, user }
}

/// The field's lines.
fn log_validated(token: &EntraToken) {
    let (kind, user, device, sid) = match &token.subject {
        EntraSubject::Device { device } => ("Device", Guid::nil(), *device, ""),
        EntraSubject::User { user, device, sid, .. } => {
            ("UDA", *user, device.unwrap_or(Guid::nil()), sid.as_deref().unwrap_or_default())
        }
    };
    info!(
        component = CCM_STS,
        verbatim = true,
        "Validated AAD token. TokenType: {kind} TenantId: {} UserId: {user} DeviceId: {device} \
         OnPrem_UserSid: {sid} OnPrem_DeviceSid: ",
        token.tenant,
    );
    info!(component = CCM_STS, verbatim = true, "TokenType is {kind}");
}

/// The key is registered for the device that the token names, or for none yet (R22). A device that was
/// joined anew has another id there, and an operator decides whether it is the same one.
pub(crate) fn check_entra_device(device: &Device, origin: EntraOrigin) -> Result<(), Refusal> {
    let Some(known) = device.entra else { return Ok(()) };
    let same_tenant = known.tenant == origin.tenant;
    let same_device = known.device.is_none() || origin.device.is_none() || known.device == origin.device;
    if same_tenant && same_device {
        return Ok(());
    }
    let detail = format!("the token names {origin:?}, {} is registered for {known:?}", device.id);
    Err(Refusal::new(Reason::StsOtherEntraDevice, detail).of(device.id))
}

/// Whether the user is completely discovered: field's line, code, and which discovery misses what.
async fn judge_user(context: &Context, tenant: Guid, user: Guid, sid: Option<&str>) -> Result<(), Refusal> {
    match context.site.judge_user(tenant, user, sid).await {
        Ok(_) => Ok(()),
        Err(JudgeUserError::Gap(gap)) => {
            info!(
                component = CCM_STS,
                verbatim = true,
                "AAD user with ID {user} and SID {} is not completely discovered",
                sid.unwrap_or_default()
            );
            info!(component = CCM_STS, %user, missing = ?gap.missing, gap = gap.text, "user refused");
            Err(Refusal::new(Reason::StsUserNotDiscovered, gap.text.clone()).telling(&gap.text))
        }
        Err(JudgeUserError::Database(error)) => Err(crate::site_error::database(&error)),
    }
}
