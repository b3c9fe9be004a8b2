//! Lines of `SMS_Cloud_ProxyConnector.log` in the field's own words [docs].

use std::fmt::Write as _;

use http::StatusCode;
use proto::id::RequestId;
use runtime::telemetry::{self, ComponentSpec, Format};
use tracing::debug;

/// Component of every line of this role.
pub(crate) const COMPONENT: &str = "SMS_CLOUD_PROXYCONNECTOR";

/// Components, files and formats of this crate.
pub const COMPONENTS: &[ComponentSpec] =
    &[ComponentSpec { component: COMPONENT, file: "SMS_Cloud_ProxyConnector.log", format: Format::Simple }];

/// Longest external address in a line, in characters. It comes from a gateway, which may say anything.
const ADDRESS_CHARS: usize = 2200;

/// Writes a line exactly as it stands.
#[track_caller]
pub(crate) fn line(text: &str) {
    made_line(|out| out.push_str(text));
}

/// The same, made only when it is wanted.
#[track_caller]
pub(crate) fn made_line(write: impl FnOnce(&mut String)) {
    telemetry::verbatim(COMPONENT, write);
}

/// Writes a line of the verbose level; as an ordinary one when `wanted` (`VerboseLogging`).
#[track_caller]
pub(crate) fn verbose_line(wanted: bool, text: impl FnOnce() -> String) {
    if wanted {
        made_line(|out| out.push_str(&text()));
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
pub(crate) fn switched(external: &str, internal_base: &str, internal: Internal<'_>) -> String {
    let mapped = external.split('?').next().unwrap_or_default();
    format!(
        "Switched to internal URL. Replaced '{mapped}' in   '{external}' with '{internal_base}' and got '{internal}"
    )
}

/// An internal address: where the role is, and what is asked of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Internal<'a> {
    /// `https://host[:port]`.
    pub(crate) base: &'a str,
    /// Path and query.
    pub(crate) target: &'a str,
}

impl std::fmt::Display for Internal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.base)?;
        f.write_str(self.target)
    }
}

/// `MessageID: …`: one line for each answer that came from a role. Put together by hand, because it is: for each.
pub(crate) fn message(
    out: &mut String,
    request: RequestId,
    internal: Internal<'_>,
    endpoint: &str,
    status: &StatusLine,
    size: u64,
    ms: u64,
) {
    // Writing to a string cannot fail.
    let _ = write!(out, "MessageID: {request}");
    out.extend([" RequestURI: ", internal.base, internal.target, " EndpointName: ", endpoint]);
    out.extend([" ResponseHeader: HTTP/1.1 ", status.code.as_str(), " ", status.phrase()]);
    // The sample of a success has a blank before the line end, that of a refusal has none.
    out.push_str(if status.code.is_success() { " ~~" } else { "~~" });
    out.push_str(" ResponseBodySize: ");
    number(out, size);
    out.push_str(" ElapsedTime: ");
    number(out, ms);
    out.push_str(" ms");
}

fn number(out: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        *digit += u8::try_from(number % 10).unwrap_or_default();
        start = index;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(start).map(|digit| char::from(*digit)));
}

/// First of two lines about a request that a role refused.
pub(crate) fn forwarding(request: RequestId, internal: Internal<'_>) -> String {
    format!("Forwarding proxy message {request} to URL: {internal}")
}

/// Second of two lines about a request that a role refused.
pub(crate) fn received(request: RequestId, internal: Internal<'_>, status: &StatusLine) -> String {
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

impl StatusLine {
    fn phrase(&self) -> &str {
        self.phrase.as_deref().or(self.code.canonical_reason()).unwrap_or_default()
    }
}

impl std::fmt::Display for StatusLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP/1.1 {} {}", self.code.as_u16(), self.phrase())
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
        let internal = Internal { base: "https://MP.MYCORP.COM", target: "/CCM_STS" };
        let message = |internal, endpoint, status, size, ms| {
            let mut out = String::new();
            message(&mut out, id(), internal, endpoint, status, size, ms);
            out
        };
        assert_eq!(
            switched(external, "https://MP.MYCORP.COM/CCM_STS", internal),
            "Switched to internal URL. Replaced 'https://CMG.CLOUDAPP.NET/CCM_Proxy_MutualAuth/72186325152220500/CCM_STS' in   'https://CMG.CLOUDAPP.NET/CCM_Proxy_MutualAuth/72186325152220500/CCM_STS' with 'https://MP.MYCORP.COM/CCM_STS' and got 'https://MP.MYCORP.COM/CCM_STS"
        );
        assert_eq!(
            message(internal, "CCM_STS", &OK, 0, 2),
            "MessageID: 3087bd34-b82c-4950-b972-e82bb0fb8385 RequestURI: https://MP.MYCORP.COM/CCM_STS EndpointName: CCM_STS ResponseHeader: HTTP/1.1 200 OK ~~ ResponseBodySize: 0 ElapsedTime: 2 ms"
        );
        let refused = StatusLine {
            code: StatusCode::FORBIDDEN,
            phrase: Some("CMGConnector_Clientcertificaterequired".into()),
        };
        assert!(
            message(internal, "SMS_MP", &refused, 5274, 44).ends_with(
                "ResponseHeader: HTTP/1.1 403 CMGConnector_Clientcertificaterequired~~ ResponseBodySize: 5274 ElapsedTime: 44 ms"
            )
        );
        assert_eq!(
            received(id(), Internal { base: "https://mp", target: "/SMS_MP/.sms_aut?MPLIST2&CM1" }, &refused),
            "Received response https://mp/SMS_MP/.sms_aut?MPLIST2&CM1 for message 3087bd34-b82c-4950-b972-e82bb0fb8385: HTTP/1.1 403 CMGConnector_Clientcertificaterequired"
        );
    }

    #[test]
    fn numbers_of_any_length_are_written() {
        for value in [0, 7, 10, 99, 1_234_567_890, u64::MAX] {
            let mut out = "x".to_owned();
            number(&mut out, value);
            assert_eq!(out, format!("x{value}"));
        }
    }

    #[test]
    fn an_address_from_a_gateway_stays_one_printable_line() {
        assert_eq!(external_address("/a/b?c", "gw.example"), "https://gw.example/a/b?c");
        assert_eq!(external_address("https://gw\r\nforged 'line", "x"), "https://gw??forged??line");
        assert!(external_address(&"a".repeat(10_000), "x").len() <= ADDRESS_CHARS);
    }
}
