//! Registration and its confirmation: a device makes itself known, and asks what it is.

mod evidence;

use proto::id::{ClientId, Thumbprint};
use proto::message::signature::KeyError;
use proto::message::{Header, ReplyMessage, RsaPublicKey};
use proto::reason::Reason;
use proto::request::registration::{
    ApprovalStatus, ClientRegistrationRequest, ClientRegistrationResponse, CloudGateway, RegistrationDetails,
    RegistrationKind, RegistrationStatus,
};
use proto::time::Timestamp;
use site::{Contact, NewRegistration, RegistrationError};
use tracing::info;

use crate::answer::{Answer, Refusal};
use crate::audit::wrong_device;
use crate::authenticate::signature::Signed;
use crate::authenticate::token::{Presented, Worth};
use crate::authenticate::{asker, check_registered, note_seen, registered_key, via};
use crate::context::Context;
use crate::log::{MP_CLI_REG, MP_REGISTRATION_MANAGER};
use crate::request::Request;
use evidence::Newcomer;

/// The name under which our client registers; it signs every request. The name is in what the device's key
/// has signed, so who takes the request's signature away does not make another client of it.
const OUR_AGENT: &str = "roamgate-client";

/// Answers a message to `MP_ClientRegistration`.
pub(crate) async fn answer(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    token: Option<&Presented>,
    header: &Header,
    body: &ClientRegistrationRequest,
) -> Result<Answer, Refusal> {
    let response = match &body.data.kind {
        RegistrationKind::Registration(details) => {
            register(context, request, signed, token, header, body, details).await
        }
        RegistrationKind::Confirmation => confirm(context, request, signed, token, header, body).await,
    };
    let response = response?;
    Ok(Answer::message(ReplyMessage::write(header, &context.stamp(), &response.to_xml())))
}

async fn register(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    token: Option<&Presented>,
    header: &Header,
    body: &ClientRegistrationRequest,
    details: &RegistrationDetails,
) -> Result<ClientRegistrationResponse, Refusal> {
    let key = client_key(&details.signing.der)?;
    if details.encryption.der != details.signing.der {
        client_key(&details.encryption.der)?;
    }
    body.verify(&key).map_err(|error| Refusal::caused(Reason::RegistrationNotProved, &error))?;
    // The key is proved: from here on the caller may know why.
    let certificate = Thumbprint::of(&details.signing.der);
    let about = |refusal: Refusal| refusal.by(certificate);
    check_time(context, body.data.time).map_err(about)?;
    asker::one_device(context, request, signed, None, token).await?;
    if let Some(signed) = signed
        && signed.key != certificate
    {
        let detail = "the request is signed by another key than the one that registers";
        return Err(match signed.client() {
            Some(client) => wrong_device(context, client, request.peer, detail.to_owned()).await,
            None => Refusal::new(Reason::RegistrationNotProved, detail),
        });
    }
    let known = match signed {
        // Whose key signed this request was looked up just now.
        Some(signed) if signed.is_key_sought => signed.device.clone(),
        _ => {
            let known = context.site.find_device_by_key(certificate).await;
            known.map_err(|error| crate::site_error::database(&error))?
        }
    };
    match &known {
        Some(device) => check_registered(context, request, device, signed).await?,
        None if signed.is_none() && context.site.settings().require_signed_requests => {
            return Err(about(Refusal::new(Reason::SignatureRequired, "the site demands signed requests")));
        }
        None => {}
    }
    let worth = token.map(|token| token.judge(context, request, Some(certificate))).transpose();
    // Its key is proved, and so whom the tenant vouched for: that this does not count any more is found and
    // noted below, where a certificate may carry the registration.
    let tenant_off = matches!(&worth, Err(refusal) if refusal.reason == Reason::TenantDisabled);
    let token = token.filter(|_| tenant_off || matches!(worth, Ok(Some(Worth::Full))));
    if !tenant_off {
        worth.map_err(about)?;
    }
    let newcomer = Newcomer {
        context,
        request,
        signed,
        signs: signed.is_some() || body.data.agent.identity == OUR_AGENT,
        token,
        known: known.as_ref(),
        details,
        key: certificate,
    };
    let proved = evidence::gather(&newcomer).await.map_err(about)?;
    info!(
        component = MP_CLI_REG,
        name = details.netbios_name(), %certificate, evidence = ?proved.evidence, refused = ?proved.refused,
        "registration received"
    );

    let new = NewRegistration {
        signing_certificate: details.signing.der.clone(),
        encryption_certificate: details.encryption.der.clone(),
        name: name(details, header),
        fqdn: details.fqdn().unwrap_or_default().to_owned(),
        hardware_id: details.hardware_id().map(str::to_owned),
        client_version: body.data.agent.version.clone(),
        signs_requests: signed.is_some(),
        method_reason: proved.how,
        credentials: proved.credentials,
        join: proved.join,
        refused: proved.refused,
        via: via(request),
    };
    let (from, evidence) = (Some(request.peer), proved.evidence);
    let registered = match signed.and_then(Signed::id_to_keep) {
        Some(message) => context.site.register_by_message(from, new, evidence, message).await,
        None => context.site.register_client(from, new, evidence).await,
    };
    let registered = registered.map_err(|error| about(refusal(&error)))?;
    let id = registered.client_id;
    info!(
        component = MP_REGISTRATION_MANAGER,
        verbatim = true,
        "Processing Registration request from Client '{id}'"
    );
    info!(
        component = MP_REGISTRATION_MANAGER,
        device = %id, new = registered.is_new, approval = registered.approval.as_str(), by = registered.approval_by,
        method = registered.method.name(), reason = registered.method_reason,
        "client registered"
    );
    let skew_ms = signed.map(|signed| signed.skew_ms(context.now()));
    context.site.record_contact(id, Contact { via: via(request), address: Some(request.peer), skew_ms });
    let approval = approval_status(registered.approval_status);
    Ok(response(context, body, id, approval, None, registered.cloud_gateway))
}

fn refusal(error: &RegistrationError) -> Refusal {
    let refusal = Refusal::caused(error.reason(), error);
    match error {
        RegistrationError::TooFast { wait } => refusal.after(*wait),
        _ => refusal,
    }
}

/// The number of a reply.
fn approval_status(number: i8) -> ApprovalStatus {
    match number {
        1 => ApprovalStatus::Approved,
        3 => ApprovalStatus::ApprovedByEntra,
        _ => ApprovalStatus::Unknown,
    }
}

async fn confirm(
    context: &Context,
    request: &Request,
    signed: Option<&Signed>,
    token: Option<&Presented>,
    header: &Header,
    body: &ClientRegistrationRequest,
) -> Result<ClientRegistrationResponse, Refusal> {
    let refused = |detail: String| Refusal::new(Reason::MessageRefused, detail);
    let id = body.data.client_id.ok_or_else(|| refused("a confirmation that names nobody".into()))?;
    info!(
        component = MP_REGISTRATION_MANAGER,
        verbatim = true,
        "Processing Registration request from Client '{id}'"
    );
    if body.signer.is_some_and(|signer| signer != id) || header.source_id.is_some_and(|source| source != id) {
        return Err(refused(format!("a confirmation of {id} in another's name")));
    }
    let found = context.site.find_device(id).await.map_err(|error| crate::site_error::database(&error))?;
    // A key that signed the request is proved: its owner's record is gone.
    let unknown = || match signed {
        Some(signed) => refused(format!("{id} is not registered")).by(signed.key),
        None => refused(format!("{id} is not registered")),
    };
    let device = found.ok_or_else(unknown)?;
    body.verify(&registered_key(&device)?)
        .map_err(|error| refused(format!("confirmation of {id}: {error}")))?;
    // The key is proved: from here on the caller may know why.
    check_time(context, body.data.time).map_err(|refusal| refusal.of(id))?;
    if let Some(signed) = signed
        && signed.key != device.signing_thumbprint
    {
        let detail = format!("the confirmation is signed by {id}, the request by {}", signed.key);
        return Err(wrong_device(context, id, request.peer, detail).await);
    }
    if let Some(token) = token {
        if let Some(other) = token.device().filter(|other| *other != id) {
            let detail = format!("the confirmation is signed by {id}, the token names {other}");
            return Err(wrong_device(context, id, request.peer, detail).await);
        }
        token.judge(context, request, Some(device.signing_thumbprint))?;
    }
    check_registered(context, request, &device, signed).await?;
    let version = &body.data.agent.version;
    let confirmed =
        context.site.confirm_registration(Some(request.peer), id, version, signed.is_some()).await;
    let confirmed = confirmed.map_err(|error| Refusal::caused(error.reason(), &error).of(id))?;
    note_seen(context, request, &device, signed);
    info!(
        component = MP_REGISTRATION_MANAGER,
        device = %id, approval = confirmed.approval_status, token_until = %confirmed.expires, "client confirmed"
    );
    let approval = approval_status(confirmed.approval_status);
    Ok(response(context, body, id, approval, Some(confirmed.token), confirmed.cloud_gateway))
}

/// The key of a certificate that is to be registered.
fn client_key(der: &[u8]) -> Result<RsaPublicKey, Refusal> {
    RsaPublicKey::from_certificate(der).map_err(|error| {
        let reason = match error {
            KeyError::WeakKey { .. } => Reason::WeakKey,
            KeyError::Certificate | KeyError::NotRsa | KeyError::PrivateKey => Reason::RegistrationMalformed,
        };
        Refusal::caused(reason, &error)
    })
}

/// What is registered is signed with its time, so that an old registration cannot be sent again
/// much later. Clients exist whose clock is off by minutes, so the window is that of headers.
fn check_time(context: &Context, time: Timestamp) -> Result<(), Refusal> {
    let now = context.now();
    if now.distance(time) <= context.site.settings().header_time_window {
        return Ok(());
    }
    Err(Refusal::new(Reason::MessageTooOld, format!("signed at {time}; it is {now}")))
}

/// The name that the device gives itself, by the first of several that it may leave out.
fn name(details: &RegistrationDetails, header: &Header) -> String {
    let given = |name: Option<&str>| name.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    given(details.netbios_name())
        .or_else(|| given(details.fqdn().and_then(|fqdn| fqdn.split('.').next())))
        .or_else(|| given(Some(&header.source_host)))
        .unwrap_or_default()
}

/// Status 0 always: whether the device is trusted is the other number (settled point 11).
fn response(
    context: &Context,
    body: &ClientRegistrationRequest,
    client_id: ClientId,
    approval: ApprovalStatus,
    pre_auth_token: Option<String>,
    cloud_gateway: CloudGateway,
) -> ClientRegistrationResponse {
    ClientRegistrationResponse {
        response_type: body.data.registration_type(),
        time: context.now(),
        status: RegistrationStatus::Registered,
        client_id,
        approval,
        pre_auth_token,
        cloud_gateway: Some(cloud_gateway),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::message::header::Property;
    use proto::request::registration::{ClientCertificate, KeyType};

    fn details(properties: &[(&str, &str)]) -> RegistrationDetails {
        let certificate = ClientCertificate { der: Vec::new(), key_type: KeyType::SelfSigned };
        let property =
            |(name, value): &(&str, &str)| Property { name: (*name).into(), value: (*value).into() };
        RegistrationDetails {
            encryption: certificate.clone(),
            signing: certificate,
            properties: properties.iter().map(property).collect(),
            hint: None,
        }
    }

    #[test]
    fn a_device_is_called_by_the_first_name_that_it_gives() {
        let header = Header { source_host: "PC3".into(), ..Header::default() };
        let both = details(&[("Netbios Name", "PC1"), ("FQ Name", "pc2.example.org")]);
        assert_eq!(name(&both, &header), "PC1");
        assert_eq!(name(&details(&[("Netbios Name", " "), ("FQ Name", "pc2.example.org")]), &header), "pc2");
        assert_eq!(name(&details(&[]), &header), "PC3");
        assert_eq!(name(&details(&[]), &Header::default()), "");
    }
}
