//! Location requests: open to all inside, changing nothing.

use proto::combination::Mode;
use proto::message::{Header, ReplyMessage};
use proto::path::Door;
use proto::request::location::content::{ContentLocationReply, ContentSite};
use proto::request::location::management_point::{
    EnumerateMpLocationReply, EnumerateMpLocationRequest, LocalMpLocationReply, MpRecord, MpRequestType,
};
use proto::request::location::site::{AssignedSiteReply, ClientOperationalSettings, SiteInfo, SiteInfoReply};
use proto::request::location::update_server::WsusLocationReply;
use proto::request::location::{Capability, LocationRequest};
use tracing::info;

use crate::answer::{Answer, Refusal};
use crate::context::Context;
use crate::log::MP_LOCATION;
use crate::site_error::database;

/// Client version that the site says it has: that of the recordings [observed].
const SITE_VERSION: &str = "5.00.9128.1000";
/// The build in it.
pub(crate) const BUILD: &str = "9128";
/// `SecurityModeMaskEx` of the recordings [observed].
const SECURITY_MODE_MASK_EX: u32 = 480;
const HTTP_PORT: u16 = 80;

/// Answers one of the six location requests.
pub(crate) async fn answer(
    context: &Context,
    header: &Header,
    body: &LocationRequest,
) -> Result<Answer, Refusal> {
    let reply = match body {
        LocationRequest::SiteInformation(request) => {
            let ours = is_ours(context, &request.site_code);
            SiteInfoReply { sites: ours.then(|| site_info(context)).into_iter().collect() }.to_xml()
        }
        LocationRequest::AssignedSite(_) => {
            AssignedSiteReply { site: Some(SiteInfo { settings: None, ..site_info(context) }) }.to_xml()
        }
        LocationRequest::EnumerateMp(request) => enumerate(context, request).await?.to_xml(),
        LocationRequest::Content(_) => no_content(context).to_xml(),
        // Nothing of the two exists yet.
        LocationRequest::LocalMp(_) => {
            LocalMpLocationReply { site_code: code(context), records: Vec::new() }.to_xml()
        }
        LocationRequest::Wsus(_) => {
            WsusLocationReply { site_code: code(context), records: Vec::new() }.to_xml()
        }
    };
    info!(
        component = MP_LOCATION,
        source = header.source_host,
        kind = name(body),
        "location request answered"
    );
    Ok(Answer::message(ReplyMessage::write(header, &context.stamp(), &reply)))
}

/// External addresses of every gateway and role that takes gateway traffic, in the form in which
/// clients are told them [docs].
pub(crate) async fn gateway_addresses(context: &Context) -> Result<Vec<String>, Refusal> {
    let gateways = context.site.list_gateways().await.map_err(|error| database(&error))?;
    let roles = context.site.list_roles().await.map_err(|error| database(&error))?;
    // One in plain HTTP mode takes nothing from gateways, whatever else is set.
    let open = roles.iter().filter(|role| role.gateway_traffic && role.mode != Mode::Http);
    let door = Door::MutualAuth;
    Ok(open
        .flat_map(|role| gateways.iter().map(move |gateway| format!("{}/{door}/{}", gateway.host, role.id)))
        .collect())
}

async fn enumerate(
    context: &Context,
    request: &EnumerateMpLocationRequest,
) -> Result<EnumerateMpLocationReply, Refusal> {
    let ours = request.site_code.is_empty() || is_ours(context, &request.site_code);
    let records = match request.request_type {
        _ if !ours => Vec::new(),
        MpRequestType::Assigned => vec![record(context, "", &context.intranet_name())],
        MpRequestType::Internet => {
            let addresses = gateway_addresses(context).await?;
            addresses.iter().map(|address| record(context, address, "")).collect()
        }
        MpRequestType::Proxy | MpRequestType::Local => Vec::new(),
    };
    Ok(EnumerateMpLocationReply { site_code: code(context), records })
}

fn record(context: &Context, internet_name: &str, intranet_name: &str) -> MpRecord {
    // Whoever is reached through a gateway is reached by HTTPS.
    let ssl_state = if internet_name.is_empty() { context.manner().ssl_state() } else { SSL_OF_GATEWAYS };
    MpRecord {
        internet_name: internet_name.to_owned(),
        intranet_name: intranet_name.to_owned(),
        version: BUILD.to_owned(),
        capabilities: vec![Capability::ssl_state(ssl_state)],
    }
}

/// `SSLState` of an address that is HTTPS: enabled and required (protocol reference 11).
pub(crate) const SSL_OF_GATEWAYS: u32 = 1 | 2;

fn site_info(context: &Context) -> SiteInfo {
    let manner = context.manner();
    let signing = context.site.site_signing_chain().into_iter().next().unwrap_or_default();
    SiteInfo {
        master_site: code(context),
        site_code: code(context),
        default_mp: context.intranet_name(),
        version: SITE_VERSION.to_owned(),
        build_number: BUILD.to_owned(),
        capabilities: vec![Capability { name: "SSL".to_owned(), version: Some("1".to_owned()), value: None }],
        settings: Some(ClientOperationalSettings {
            version: SITE_VERSION.to_owned(),
            security_mode_mask: manner.ssl_state(),
            security_mode_mask_ex: SECURITY_MODE_MASK_EX,
            http_port: context.port().unwrap_or(HTTP_PORT),
            https_port: manner.https_port(),
            certificate_store: String::new(),
            certificate_selection_criteria: String::new(),
            certificate_select_first: true,
            site_signing_certificate: signing,
        }),
    }
}

/// The site, and nowhere in it the content: an empty record list.
fn no_content(context: &Context) -> ContentLocationReply {
    let site = ContentSite {
        site_code: code(context),
        master_site_code: code(context),
        locality: "LOCAL".to_owned(),
        http_port: context.port().unwrap_or(HTTP_PORT),
        https_port: context.manner().https_port(),
        records: Vec::new(),
    };
    ContentLocationReply { sites: vec![site], ..ContentLocationReply::default() }
}

fn code(context: &Context) -> String {
    context.site.facts().code.to_string()
}

pub(crate) fn is_ours(context: &Context, asked: &str) -> bool {
    code(context).eq_ignore_ascii_case(asked)
}

fn name(body: &LocationRequest) -> &'static str {
    match body {
        LocationRequest::SiteInformation(_) => "SiteInformationRequest",
        LocationRequest::AssignedSite(_) => "AssignedSiteRequest",
        LocationRequest::Content(_) => "ContentLocationRequest",
        LocationRequest::EnumerateMp(_) => "EnumerateMPLocationRequest",
        LocationRequest::LocalMp(_) => "LocalMPLocationRequest",
        LocationRequest::Wsus(_) => "WSUSLocationRequest",
    }
}
