//! Components of this crate's lines, and the field's own line for a gateway's traffic.

use proto::link::EndpointCounters;
use runtime::telemetry::{ComponentSpec, Format, OneLine};
use tracing::info;

/// What the operator API writes; the file has the name of the field's own REST service [docs].
pub(crate) const OPERATOR_API: &str = "SMS_REST_PROVIDER";
/// What the site link writes.
pub(crate) const SITE_LINK: &str = "SMS_SITE_LINK";
/// Traffic of the gateways, as they report it. In the field their logs arrive at the site as
/// `CMG-…-CMGService.log` [docs].
const GATEWAYS: &str = "CMGService";

/// Components, files and formats of this crate.
pub const COMPONENTS: &[ComponentSpec] = &[
    ComponentSpec { component: OPERATOR_API, file: "SMS_REST_PROVIDER.log", format: Format::Simple },
    ComponentSpec { component: SITE_LINK, file: "SMS_SITE_LINK.log", format: Format::Simple },
    ComponentSpec { component: GATEWAYS, file: "CMG-CMGService.log", format: Format::Simple },
];

/// Writes one line for each path of a gateway: the field's line, and behind it whose it is, because
/// here all gateways share a file.
pub(crate) fn gateway_traffic(gateway: &str, rows: &[EndpointCounters]) {
    for row in rows {
        info!(component = GATEWAYS, gateway, "{}", OneLine(traffic_line(row).as_str()));
    }
}

/// The line of `CMGService.log`, letter by letter [docs].
fn traffic_line(row: &EndpointCounters) -> String {
    let average = row.elapsed_micros.checked_div(row.responses).unwrap_or(0) / 1000;
    format!(
        "RequestUri: {}  RequestCount: {}  RequestSize: {} Bytes  ResponseCount: {}  ResponseSize: {} Bytes  \
         AverageElapsedTime: {average} ms",
        row.name, row.requests, row.request_bytes, row.responses, row.response_bytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_line_comes_out_letter_by_letter() {
        let row = EndpointCounters {
            name: "/CCM_PROXY_SERVERAUTH/72057594037937981/CCM_STS".into(),
            requests: 1,
            request_bytes: 1974,
            responses: 1,
            response_bytes: 1566,
            elapsed_micros: 218_999,
            failed: 0,
            with_token: 1,
            concurrent_max: 1,
        };
        assert_eq!(
            traffic_line(&row),
            "RequestUri: /CCM_PROXY_SERVERAUTH/72057594037937981/CCM_STS  RequestCount: 1  RequestSize: 1974 Bytes  \
             ResponseCount: 1  ResponseSize: 1566 Bytes  AverageElapsedTime: 218 ms"
        );
        let unanswered = EndpointCounters { responses: 0, ..row };
        assert!(traffic_line(&unanswered).ends_with("AverageElapsedTime: 0 ms"));
    }
}
