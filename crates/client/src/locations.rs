//! What the site says about ways to it: how a device inside learns the gateways.

use proto::message::MessageEndpoint;
use proto::request::location::management_point::MpRequestType;
use proto::request::location::{ClientLocationInfo, EnumerateMpLocationReply, EnumerateMpLocationRequest};

use crate::address::GatewayAddress;
use crate::device::{Device, RequestError};
use crate::location::{GATEWAYS, Locality};
use crate::log::line;
use crate::token::Wanted;

impl Device {
    /// Asks for the gateways of the site and remembers them. An answer without any leaves those
    /// that are known: an outage of the gateways' records must not strand devices.
    pub async fn learn_gateways(&mut self) -> Result<usize, RequestError> {
        let on_internet = self.state().whereabouts.as_ref().is_some_and(|w| w.locality == Locality::Internet);
        let request = EnumerateMpLocationRequest {
            request_type: MpRequestType::Internet,
            location: ClientLocationInfo::of_our_client(None, on_internet),
            site_code: self.state().setup.site_code.map(|code| code.to_string()).unwrap_or_default(),
        };
        let xml = self.ask(MessageEndpoint::LocationManager, &request.to_xml(), Wanted::Any).await?;
        let reply = EnumerateMpLocationReply::parse(&xml).map_err(RequestError::Body)?;
        let gateways: Vec<GatewayAddress> = reply
            .records
            .iter()
            .filter_map(|record| record.internet_name.parse().ok())
            .take(GATEWAYS)
            .collect();
        line!(info, LocationServices, gateways = gateways.len(), "the site named its gateways");
        if !gateways.is_empty() && gateways != self.state().located_gateways {
            self.state_mut().located_gateways.clone_from(&gateways);
            self.save().map_err(RequestError::State)?;
        }
        Ok(gateways.len())
    }
}
