//! Registration and its confirmation: a device makes itself known, and asks what it is.

use proto::id::{ClientId, Thumbprint};
use proto::identity::Method;
use proto::message::signature::KeyError;
use proto::message::{Header, ReplyMessage, RsaPublicKey};
use proto::reason::Reason;
use proto::request::registration::{
    ApprovalStatus, ClientRegistrationRequest, ClientRegistrationResponse, RegistrationDetails,
    RegistrationKind, RegistrationStatus,
};
use proto::time::Timestamp;
use site::{Approval, ApprovalRule, Evidence, NewRegistration};
use tracing::info;

use crate::answer::{Answer, Refusal};
use crate::audit::wrong_device;
use crate::authenticate::signature::Signed;
use crate::authenticate::token::{Presented, Worth};
use crate::authenticate::{asker, check_state, note_seen, registered_key, via};
use crate::context::Context;
use crate::log::{MP_CLI_REG, MP_REGISTRATION_MANAGER};
use crate::request::Request;

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
    client_key(&details.encryption.der)?;
    body.verify(&key).map_err(|error| Refusal::caused(Reason::RegistrationNotProved, &error))?;
    // The key is proved: from here on the caller may know why.
    let certificate = Thumbprint::of(&details.signing.der);
    check_time(context, body.data.time)?;
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
    check_signing(context, signed, certificate).await?;
    let worth = token.map(|token| token.judge(context, request, Some(certificate))).transpose()?;
    let evidence = evidence(context, request, token.filter(|_| worth == Some(Worth::Full)));
    info!(component = MP_CLI_REG, name = details.netbios_name(), %certificate, ?evidence, "registration received");

    let new = NewRegistration {
        signing_certificate: details.signing.der.clone(),
        encryption_certificate: details.encryption.der.clone(),
        name: name(details, header),
        fqdn: details.fqdn().unwrap_or_default().to_owned(),
        hardware_id: details.hardware_id().map(str::to_owned),
        client_version: body.data.agent.version.clone(),
        signs_requests: signed.is_some(),
        method: Method::SiteToken,
        method_reason: method_reason(evidence),
        via: via(request),
    };
    let registered = context.site.register_client(Some(request.peer), new, evidence).await;
    let registered = registered.map_err(|error| Refusal::caused(error.reason(), &error))?;
    let id = registered.client_id;
    info!(
        component = MP_REGISTRATION_MANAGER,
        verbatim = true,
        "Processing Registration request from Client '{id}'"
    );
    info!(
        component = MP_REGISTRATION_MANAGER,
        device = %id, new = registered.is_new, approval = registered.approval.as_str(), by = registered.approval_by,
        "client registered"
    );
    context.site.record_seen(id, via(request));
    let approval = match registered.approval {
        Approval::Approved => ApprovalStatus::Approved,
        Approval::Held => ApprovalStatus::Unknown,
    };
    Ok(response(context, body, id, approval, None))
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
    let device = found.ok_or_else(|| refused(format!("{id} is not registered")))?;
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
    check_state(context, &device, signed, true)?;
    let version = &body.data.agent.version;
    let confirmed =
        context.site.confirm_registration(Some(request.peer), id, version, signed.is_some()).await;
    let confirmed = confirmed.map_err(|error| Refusal::caused(error.reason(), &error).of(id))?;
    note_seen(context, request, &device);
    info!(
        component = MP_REGISTRATION_MANAGER,
        device = %id, approval = confirmed.approval_status, token_until = %confirmed.expires, "client confirmed"
    );
    let approval = match confirmed.approval_status {
        1 => ApprovalStatus::Approved,
        3 => ApprovalStatus::ApprovedByEntra,
        _ => ApprovalStatus::Unknown,
    };
    Ok(response(context, body, id, approval, Some(confirmed.token)))
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

/// A key that has signed its requests once signs all of them (settled point 13).
async fn check_signing(context: &Context, signed: Option<&Signed>, key: Thumbprint) -> Result<(), Refusal> {
    if signed.is_some() {
        return Ok(());
    }
    if context.site.settings().require_signed_requests {
        return Err(Refusal::new(Reason::SignatureRequired, "the site demands signed requests"));
    }
    let known =
        context.site.find_device_by_key(key).await.map_err(|error| crate::site_error::database(&error))?;
    match known.filter(|device| device.signs_requests) {
        Some(device) => {
            let detail = "a device that signs its requests sent one unsigned";
            Err(Refusal::new(Reason::SignatureRequired, detail).of(device.id))
        }
        None => Ok(()),
    }
}

/// What vouches for the device. Never the path, and never the address of a connection point.
fn evidence(context: &Context, request: &Request, token: Option<&Presented>) -> Evidence {
    if let Some(id) = token.and_then(|token| token.token.bulk) {
        return Evidence::BulkToken { id };
    }
    let inside = token.is_none() && !request.came_through_gateway();
    let network = |rule: &ApprovalRule| matches!(rule, ApprovalRule::Network(network) if network.contains(request.peer));
    match (inside, context.approve_everything) {
        // The lab, too, names the rule of the field where one fits.
        (true, true) if context.site.approval_rules().iter().any(network) => {
            Evidence::Network { source: request.peer }
        }
        (_, true) => Evidence::Lab,
        (true, false) => Evidence::Network { source: request.peer },
        (false, false) => Evidence::None,
    }
}

/// Why a device proves itself by the site's token: shown beside the method.
fn method_reason(evidence: Evidence) -> String {
    let how = match evidence {
        Evidence::BulkToken { .. } => "registered with a bulk registration token",
        Evidence::Network { .. } => "registered straight at a management point",
        Evidence::Lab => "registered at the lab",
        Evidence::None => "registered without a token",
    };
    format!("{how}; it showed neither a certificate of a trusted PKI nor an Entra identity")
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
) -> ClientRegistrationResponse {
    ClientRegistrationResponse {
        response_type: body.data.registration_type(),
        time: context.now(),
        status: RegistrationStatus::Registered,
        client_id,
        approval,
        pre_auth_token,
        cloud_gateway: None,
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
