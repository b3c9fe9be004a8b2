//! Facts about site and management point: `.sms_aut`. Public, and open to all inside.

use proto::message::RsaPublicKey;
use proto::public_key_blob;
use proto::reason::Reason;
use proto::request::location::Capability;
use proto::request::site_facts::{
    ListedMp, MachineAffinity, MpCertificate, MpCertificates, MpKeyInformation, MpList, MpListKind,
    SiteFactQuery, SiteSigningCertificate, TrustedRootKey,
};
use tracing::info;

use crate::answer::{Answer, Refusal};
use crate::context::Context;
use crate::location::{BUILD, SSL_OF_GATEWAYS, gateway_addresses, is_ours};
use crate::log::MP_GET_AUTH;
use crate::request::Request;

/// Answers `GET …/.sms_aut?VERB`.
pub(crate) async fn answer(context: &Context, request: &Request) -> Result<Answer, Refusal> {
    let query = SiteFactQuery::parse(request.query.as_deref().unwrap_or_default())
        .map_err(|error| Refusal::caused(Reason::UnknownQuery, &error))?;
    let xml = match &query {
        SiteFactQuery::MpList { kind, site } => list(context, *kind, site.as_deref()).await?.to_xml(),
        SiteFactQuery::MpCertificate => MpCertificate(certificate(context)).to_xml(),
        // Nothing is encrypted to a management point: it has one certificate.
        SiteFactQuery::MpCertificates => {
            MpCertificates { signing: certificate(context), encryption: certificate(context) }.to_xml()
        }
        SiteFactQuery::MpKeyInformation(_) => key_information(context)?.to_xml(),
        SiteFactQuery::SiteSigningCertificate => {
            let leaf = context.site.site_signing_chain().into_iter().next();
            SiteSigningCertificate(leaf.unwrap_or_default()).to_xml()
        }
        SiteFactQuery::TrustedRootKey => TrustedRootKey(root_key(context)?).to_xml(),
        // Whose device it is would be told to anybody: no user is known here anyway.
        SiteFactQuery::ClientAffinity(_) => MachineAffinity { users: Vec::new() }.to_xml(),
        SiteFactQuery::MpLocation(_) => {
            return Err(Refusal::new(Reason::NotServed, "boot media are not served"));
        }
    };
    info!(component = MP_GET_AUTH, %query, "site fact sent");
    Ok(Answer::xml(xml))
}

/// This management point; for the internet, first the gateways that lead to one.
async fn list(context: &Context, kind: MpListKind, site: Option<&str>) -> Result<MpList, Refusal> {
    if site.is_some_and(|site| !is_ours(context, site)) {
        return Ok(MpList { management_points: Vec::new() });
    }
    let gateways = if kind == MpListKind::Internet { gateway_addresses(context).await? } else { Vec::new() };
    let outside = gateways.iter().map(|address| listed(context, kind, address, address, SSL_OF_GATEWAYS));
    let name = context.host().to_ascii_uppercase();
    let ours = listed(context, kind, &name, &context.intranet_name(), context.manner().ssl_state());
    Ok(MpList { management_points: outside.chain([ours]).collect() })
}

fn listed(context: &Context, kind: MpListKind, name: &str, fqdn: &str, ssl_state: u32) -> ListedMp {
    ListedMp {
        name: name.to_owned(),
        fqdn: fqdn.to_owned(),
        site_code: (kind == MpListKind::Intranet).then(|| context.site.facts().code.to_string()),
        version: BUILD.to_owned(),
        capabilities: vec![Capability::ssl_state(ssl_state)],
    }
}

fn key_information(context: &Context) -> Result<MpKeyInformation, Refusal> {
    let code = context.site.facts().code.to_string();
    let host = context.host();
    Ok(MpKeyInformation {
        machine_name: host.split('.').next().unwrap_or(host).to_ascii_uppercase(),
        fqdn: host.to_owned(),
        site_code: code.clone(),
        assignment_site_code: code,
        certificate: certificate(context),
        trusted_root_key: root_key(context)?,
    })
}

/// The certificate of the key that signs our answers.
fn certificate(context: &Context) -> Vec<u8> {
    context.site.message_chain().into_iter().next().unwrap_or_default()
}

/// The root's public key in the form that clients pin.
fn root_key(context: &Context) -> Result<Vec<u8>, Refusal> {
    RsaPublicKey::from_certificate(&context.site.root_certificate())
        .map(|key| public_key_blob::build(&key))
        .map_err(|error| Refusal::caused(Reason::InternalError, &error))
}
