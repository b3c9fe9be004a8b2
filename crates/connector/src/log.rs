//! Lines of `SMS_Cloud_ProxyConnector.log` in the field's own words [docs].

use std::fmt::Write as _;

use http::StatusCode;
use proto::id::RequestId;
use runtime::telemetry::{ComponentSpec, Format};
use tracing::{debug, info};

/// Component of every line of this role.
pub(crate) const COMPONENT: &str = "SMS_CLOUD_PROXYCONNECTOR";

/// Components, files and formats of this crate.
pub const COMPONENTS: &[ComponentSpec] =
    &[ComponentSpec { component: COMPONENT, file: "SMS_Cloud_ProxyConnector.log", format: Format::Simple }];

/// Longest external address in a line, in characters. It comes from a gateway, which may say anything.
const ADDRESS_CHARS: usize = 2200;

/// Writes a line exactly as it stands.
pub(crate) fn line(text: &str) {
    info!(component = COMPONENT, verbatim = true, "{text}");
}

/// Writes a line of the verbose level; as an ordinary one when `wanted` (`VerboseLogging`).
pub(crate) fn verbose_line(wanted: bool, text: impl FnOnce() -> String) {
    if wanted {
        line(&text());
    } else {
        debug!(component = COMPONENT, verbatim = true, "{}", LazyText(std::cell::Cell::new(Some(text))));
    }
}

/// Text that is made only when somebody reads the line.
struct LazyText<F>(std::cell::Cell<Option<F>>);

impl<F: FnOnce() -> String> std::fmt::Display for LazyText<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.take().map_or(Ok(()), |make| f.write_str(&make()))
    }
}

/// `Switched to internal URL. …`: what was asked outside, and where it goes inside. The missing
/// quotation mark at the end is the original's.
pub(crate) fn switched(external: &str, internal_base: &str, internal: &str) -> String {
    let mapped = external.split('?').next().unwrap_or_default();
    format!(
        "Switched to internal URL. Replaced '{mapped}' in   '{external}' with '{internal_base}' and got '{internal}"
    )
}

/// `MessageID: …`: one line for each answer that came from a role.
pub(crate) fn message(
    request: RequestId,
    internal: &str,
    endpoint: &str,
    status: &StatusLine,
    size: u64,
    ms: u64,
) -> String {
    // The sample of a success has a blank before the line end, that of a refusal has none.
    let gap = if status.code.is_success() { " " } else { "" };
    format!(
        "MessageID: {request} RequestURI: {internal} EndpointName: {endpoint} ResponseHeader: {status}{gap}~~ ResponseBodySize: {size} ElapsedTime: {ms} ms"
    )
}

/// First of two lines about a request that a role refused.
pub(crate) fn forwarding(request: RequestId, internal: &str) -> String {
    format!("Forwarding proxy message {request} to URL: {internal}")
}

/// Second of two lines about a request that a role refused.
pub(crate) fn received(request: RequestId, internal: &str, status: &StatusLine) -> String {
    format!("Received response {internal} for message {request}: {status}")
}

/// A status line as it travels on.
#[derive(Debug, Clone)]
pub(crate) struct StatusLine {
    /// The status.
    pub(crate) code: StatusCode,
    /// The phrase, when it is not the standard one.
    pub(crate) phrase: Option<String>,
}

impl std::fmt::Display for StatusLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let phrase = self.phrase.as_deref().or(self.code.canonical_reason()).unwrap_or_default();
        write!(f, "HTTP/1.1 {} {phrase}", self.code.as_u16())
    }
}

/// An external address as a gateway told it, fit for a line: one line, printable, of bounded length, with
/// the gateway's host where the gateway gave the path alone.
pub(crate) fn external_address(told: &str, host: &str) -> String {
    let mut text = String::new();
    if told.starts_with('/') {
        let _ = write!(text, "https://{host}");
    }
    let printable = |c: char| if c.is_ascii_graphic() && c != '\'' { c } else { '?' };
    text.extend(told.chars().take(ADDRESS_CHARS).map(printable));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: StatusLine = StatusLine { code: StatusCode::OK, phrase: None };

    fn id() -> RequestId {
        "3087bd34-b82c-4950-b972-e82bb0fb8385".parse().unwrap()
    }

    #[test]
    fn the_published_lines_come_out_word_for_word() {
        let external = "https://CMG.CLOUDAPP.NET/CCM_Proxy_MutualAuth/72186325152220500/CCM_STS";
        let internal = "https://MP.MYCORP.COM/CCM_STS";
        assert_eq!(
            switched(external, internal, internal),
            "Switched to internal URL. Replaced 'https://CMG.CLOUDAPP.NET/CCM_Proxy_MutualAuth/72186325152220500/CCM_STS' in   'https://CMG.CLOUDAPP.NET/CCM_Proxy_MutualAuth/72186325152220500/CCM_STS' with 'https://MP.MYCORP.COM/CCM_STS' and got 'https://MP.MYCORP.COM/CCM_STS"
        );
        assert_eq!(
            message(id(), internal, "CCM_STS", &OK, 0, 2),
            "MessageID: 3087bd34-b82c-4950-b972-e82bb0fb8385 RequestURI: https://MP.MYCORP.COM/CCM_STS EndpointName: CCM_STS ResponseHeader: HTTP/1.1 200 OK ~~ ResponseBodySize: 0 ElapsedTime: 2 ms"
        );
        let refused = StatusLine {
            code: StatusCode::FORBIDDEN,
            phrase: Some("CMGConnector_Clientcertificaterequired".into()),
        };
        assert!(
            message(id(), internal, "SMS_MP", &refused, 5274, 44).ends_with(
                "ResponseHeader: HTTP/1.1 403 CMGConnector_Clientcertificaterequired~~ ResponseBodySize: 5274 ElapsedTime: 44 ms"
            )
        );
        assert_eq!(
            received(id(), "https://mp/SMS_MP/.sms_aut?MPLIST2&CM1", &refused),
            "Received response https://mp/SMS_MP/.sms_aut?MPLIST2&CM1 for message 3087bd34-b82c-4950-b972-e82bb0fb8385: HTTP/1.1 403 CMGConnector_Clientcertificaterequired"
        );
    }

    #[test]
    fn an_address_from_a_gateway_stays_one_printable_line() {
        assert_eq!(external_address("/a/b?c", "gw.example"), "https://gw.example/a/b?c");
        assert_eq!(external_address("https://gw\r\nforged 'line", "x"), "https://gw??forged??line");
        assert!(external_address(&"a".repeat(10_000), "x").len() <= ADDRESS_CHARS);
    }
}
