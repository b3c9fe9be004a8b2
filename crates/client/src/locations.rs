//! What the site says about ways to it: gateways, management points inside, and whether this device may use
//! gateways at all.

use proto::message::MessageEndpoint;
use proto::request::location::management_point::{MpRecord, MpRequestType};
use proto::request::location::site::{SiteInfoReply, SiteInformationRequest};
use proto::request::location::{
    ClientLocationInfo, EnumerateMpLocationReply, EnumerateMpLocationRequest, ssl_state,
};
use proto::request::registration::CloudGateway;

use crate::address::{Address, GatewayAddress, InsideAddress};
use crate::device::{Device, RequestError};
use crate::location::{GATEWAYS, INSIDE, Locality};
use crate::log::line;
use crate::place::WordSource;
use crate::token::Wanted;

/// In `SSLState`: the management point takes HTTPS only (protocol reference 11).
const SSL_REQUIRED: u32 = 2;

impl Device {
    /// Asks for the gateways of the site and remembers them. An answer without any leaves those
    /// that are known: an outage of the gateways' records must not strand devices.
    pub async fn learn_gateways(&mut self) -> Result<usize, RequestError> {
        let records = self.enumerate(MpRequestType::Internet).await?;
        let named = records.iter().map(|record| record.internet_name.as_str());
        let gateways = read_gateways(named);
        line!(debug, LocationServices, gateways = gateways.len(), "location request answered");
        self.take_gateways(&gateways, "location request").map_err(RequestError::State)?;
        Ok(gateways.len())
    }

    /// Asks for the management points inside and remembers them, for the device may come there. An answer
    /// without any leaves those that are known.
    pub async fn learn_inside(&mut self) -> Result<usize, RequestError> {
        let records = self.enumerate(MpRequestType::Assigned).await?;
        // Only who proves itself by a tenant's token needs HTTPS where plain HTTP is good for all others.
        let https_port = if self.state().proof.has_entra() { self.https_port().await? } else { None };
        let mut inside: Vec<InsideAddress> = Vec::new();
        for address in records.iter().flat_map(|record| addresses_of(record, https_port)) {
            if inside.len() < INSIDE && !inside.contains(&address) {
                inside.push(address);
            }
        }
        let named: Vec<_> = inside.iter().map(ToString::to_string).collect();
        line!(
            info,
            LocationServices,
            management_points = named.join(" "),
            "the site named its management points inside"
        );
        if !inside.is_empty() && inside != self.state().place.inside {
            self.state_mut().place.inside.clone_from(&inside);
            self.save().map_err(RequestError::State)?;
        }
        Ok(inside.len())
    }

    /// Takes what the answer to a registration says of gateways, so that first contact works before any
    /// policy. A site that says nothing changes nothing.
    pub(crate) fn take_permission(
        &mut self,
        said: Option<CloudGateway>,
        source: WordSource,
    ) -> Result<(), RequestError> {
        let Some(said) = said else { return Ok(()) };
        let gateways = read_gateways(said.addresses.iter().map(String::as_str));
        self.take_site_word(said.allowed, &gateways, source).map_err(RequestError::State)
    }

    async fn enumerate(&mut self, request_type: MpRequestType) -> Result<Vec<MpRecord>, RequestError> {
        let on_internet = self.state().whereabouts.as_ref().is_some_and(|w| w.locality == Locality::Internet);
        let request = EnumerateMpLocationRequest {
            request_type,
            location: ClientLocationInfo::of_our_client(None, on_internet),
            site_code: self.site_code(),
        };
        let xml = self.ask(MessageEndpoint::LocationManager, &request.to_xml(), Wanted::Any).await?;
        Ok(EnumerateMpLocationReply::parse(&xml).map_err(RequestError::Body)?.records)
    }

    /// The port of the management points' HTTPS, as site information tells it.
    async fn https_port(&mut self) -> Result<Option<u16>, RequestError> {
        let site_code = self.site_code();
        if site_code.is_empty() {
            return Ok(None);
        }
        let request = SiteInformationRequest { site_code };
        let xml = self.ask(MessageEndpoint::LocationManager, &request.to_xml(), Wanted::Any).await?;
        let reply = SiteInfoReply::parse(&xml).map_err(RequestError::Body)?;
        Ok(reply.sites.into_iter().next().and_then(|site| site.settings).map(|settings| settings.https_port))
    }

    fn site_code(&self) -> String {
        self.state().setup.site_code.map(|code| code.to_string()).unwrap_or_default()
    }
}

/// Gateways of those texts that name one.
pub(crate) fn read_gateways<'a>(named: impl Iterator<Item = &'a str>) -> Vec<GatewayAddress> {
    let mut gateways: Vec<GatewayAddress> = Vec::new();
    for gateway in named.filter_map(|text| text.trim().parse().ok()) {
        if gateways.len() < GATEWAYS && !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    gateways
}

/// The addresses of one management point: by HTTPS where it takes nothing else; else by HTTP, and by HTTPS
/// besides where a port for it is wanted.
fn addresses_of(record: &MpRecord, https_port: Option<u16>) -> Vec<InsideAddress> {
    let name = record.intranet_name.trim();
    let takes_https_only = ssl_state(&record.capabilities).is_some_and(|state| state & SSL_REQUIRED != 0);
    if takes_https_only {
        return format!("https://{name}").parse().into_iter().collect();
    }
    let Ok(plain) = format!("http://{name}").parse::<InsideAddress>() else { return Vec::new() };
    let host = Address::Inside(plain.clone()).host().to_owned();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let by_https = https_port.and_then(|port| format!("https://{host}:{port}").parse().ok());
    std::iter::once(plain).chain(by_https).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::request::location::Capability;

    fn addresses(name: &str, state: u32, port: Option<u16>) -> Vec<String> {
        let record = MpRecord {
            internet_name: String::new(),
            intranet_name: name.to_owned(),
            version: "9128".to_owned(),
            capabilities: vec![Capability::ssl_state(state)],
        };
        addresses_of(&record, port).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_management_point_is_reached_as_its_mode_says() {
        assert_eq!(addresses("mp1.example.org", 0, None), ["http://mp1.example.org"]);
        assert_eq!(
            addresses("mp1.example.org:8080", 0, Some(8443)),
            ["http://mp1.example.org:8080", "https://mp1.example.org:8443"]
        );
        assert_eq!(addresses("[fd00::1]:80", 0, Some(443)), ["http://[fd00::1]:80", "https://[fd00::1]:443"]);
        for state in [7, 15] {
            assert_eq!(addresses("mp1:8531", state, Some(443)), ["https://mp1:8531"]);
        }
        assert!(addresses("", 0, Some(443)).is_empty() && addresses("a b", 7, None).is_empty());
    }

    #[test]
    fn what_is_no_gateway_is_passed_over() {
        let gateway = "gw/CCM_Proxy_MutualAuth/7";
        let read = read_gateways([gateway, "nonsense", " GW/CCM_Proxy_ServerAuth/7 ", ""].into_iter());
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), [gateway]);
    }
}
