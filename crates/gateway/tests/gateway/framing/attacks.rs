//! The table: what is written, and what is answered to it and to the good request behind it.
//!
//! A code of the gateway's stands for a refusal; where nothing follows it, the connection was closed and the
//! request behind it reached nobody. `200 200`: passed as one, and the one behind it as another. `200`: passed
//! as one, and the connection closed. Empty: closed without a word.

use proto::identity::FORGED_IDENTITY_HEADERS;

use super::exchange::Seen;
use crate::site::ROLE;

/// One attack.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) text: String,
    /// Answers where bodies in chunks are not taken, which is the default.
    pub(super) without_chunks: &'static str,
    /// Answers where they are.
    pub(super) with_chunks: &'static str,
    /// Headers that the connection point gets, where the case passes.
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
}

/// A good request without a body.
pub(super) const GET: &str = "GET {P} HTTP/1.1\r\n{H}\r\n";
/// Five bytes, in one chunk.
const CHUNKED: &str = "5\r\nhello\r\n0\r\n\r\n";

/// A request with a body.
pub(super) fn post(headers: &str, body: &str) -> String {
    format!("CCM_POST {{M}} HTTP/1.1\r\n{{H}}{headers}\r\n{body}")
}

fn get(headers: &str) -> String {
    format!("GET {{P}} HTTP/1.1\r\n{{H}}{headers}\r\n")
}

fn line(line: &str) -> String {
    format!("{line}\r\n{{H}}\r\n")
}

fn at(path: &str) -> String {
    line(&format!("GET {{base}}{path} HTTP/1.1"))
}

fn chunks(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn case(name: impl Into<String>, text: impl Into<String>, answers: &'static str) -> Case {
    let text = text.into();
    let body = if text.starts_with("CCM_POST") { "hello" } else { "" };
    let headers = vec![("authorization", "")];
    Case { name: name.into(), text, without_chunks: answers, with_chunks: answers, headers, body }
}

/// Refused without chunks, and answered so where they are taken.
fn chunked(name: impl Into<String>, text: impl Into<String>, with_chunks: &'static str) -> Case {
    Case { with_chunks, ..case(name, text, "RG-1007") }
}

impl Case {
    fn body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Holds what passed against what we would write ourselves, field by field.
    pub(super) fn compare(&self, seen: &Seen) -> Result<(), String> {
        let head = &seen.head;
        let is = |name: &str, is: bool| if is { Ok(()) } else { Err(format!("{name}: {seen:?}")) };
        let (method, rest) = self.text.trim_start_matches(['\r', '\n']).split_once(' ').unwrap_or_default();
        is("method", head.method == method)?;
        is("role", head.role == ROLE)?;
        is("certificate", head.certificate.is_none())?;
        let path =
            if method == "CCM_POST" { "/ccm_system_tokenauth/request" } else { "/SMS_MP_TokenAuth/.sms_aut" };
        let (place, query) = head.target.split_once('?').unwrap_or_default();
        is("path", place == path)?;
        is("query", query.starts_with("case=") && query.bytes().all(|byte| byte.is_ascii_graphic()))?;
        is(
            "external",
            head.external.ends_with(&format!("?{query}")) && head.external.starts_with("https://"),
        )?;
        is(
            "host",
            rest.contains(head.external["https://".len()..].split('/').next().unwrap_or("none"))
                || rest.contains("{H}"),
        )?;
        let mut got: Vec<_> =
            head.headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        is(
            "token",
            got.iter().any(|(name, value)| *name == "authorization" && value.starts_with("Bearer ey")),
        )?;
        got.iter_mut().filter(|(name, _)| *name == "authorization").for_each(|(_, value)| *value = "");
        got.sort_unstable();
        let mut expected = self.headers.clone();
        expected.sort_unstable();
        is("headers", got == expected)?;
        is("body", seen.body == self.body.as_bytes())?;
        let length = head.body_length;
        is("length", length.is_none_or(|length| length == seen.body.len() as u64))
    }
}

/// Every case.
pub(super) fn all() -> Vec<Case> {
    [lengths(), encodings(), chunk_tricks(), request_lines(), headers(), identities(), paths(), methods()]
        .into_iter()
        .flatten()
        .collect()
}

fn lengths() -> Vec<Case> {
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"), "hello");
    let two = |one: &str, other: &str| {
        post(&format!("Content-Length: {one}\r\nContent-Length: {other}\r\n"), "hello")
    };
    let mut cases = vec![
        case("a length", length("5"), "200 200"),
        case("a length in other letters", post("cOnTeNt-LeNgTh: 5\r\n", "hello"), "200 200"),
        case("the same length twice", two("5", "5"), "200 200"),
        case("the same length thrice", post(&"Content-Length: 5\r\n".repeat(3), "hello"), "200 200"),
        case("space and tab around a length", length(" \t5\t "), "200 200"),
        case("a length with zeroes in front", length("0005"), "200 200"),
        case("the largest length", length("9223372036854775807"), "RG-1003"),
        case("a length that does not fit 64 bits", length("18446744073709551616"), "RG-1005"),
        case("a length of 64 bits, all ones", length("18446744073709551615"), "RG-1008"),
        case("a length one larger than is taken", length("5242881"), "RG-1003"),
        case("a length longer than what comes", length("4000"), "RG-1009"),
        case("a length shorter than what comes", length("3"), "200 RG-1002").body("hel"),
        case("underscore in place of the hyphen", post("Content_Length: 5\r\n", "hello"), "200 RG-1002")
            .body(""),
        case("no length", post("", "hello"), "200 RG-1002").body(""),
        case("space before a length's colon", post("Content-Length : 5\r\n", "hello"), "RG-1005"),
        case("tab before a length's colon", post("Content-Length\t: 5\r\n", "hello"), "RG-1005"),
        case("a length on a folded line", post("Content-Length:\r\n 5\r\n", "hello"), "RG-1005"),
        case("a GET with a body", format!("{}hello", get("Content-Length: 5\r\n")), "RG-1003"),
    ];
    for (one, other) in [("5", "6"), ("6", "5"), ("5", "0"), ("0", "5"), ("5", ""), ("5", "+5"), ("5", "x")] {
        cases.push(case(format!("lengths {one:?} and {other:?}"), two(one, other), "RG-1005"));
    }
    for value in [
        "+5", "-5", "-0", "0x5", "5h", "5 5", "5, 5", "5,6", "5;5", "5.0", "5e0", "", " ", ",", "5,",
        "\"5\"", "5\u{b}", "\u{b2}", "5\0", "five",
    ] {
        cases.push(case(format!("length {value:?}"), length(value), "RG-1005"));
    }
    cases
}

fn encodings() -> Vec<Case> {
    let encoded = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"), CHUNKED);
    let both = |headers: &str| post(headers, CHUNKED);
    let mut cases = vec![
        chunked("chunks", encoded("chunked"), "200"),
        chunked("chunks in other letters", encoded("ChUnKeD"), "200"),
        chunked("space and tab around chunked", encoded("\t chunked \t"), "200"),
        chunked("a length, then chunks", both("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), "200"),
        chunked("chunks, then a length", both("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"), "200"),
        chunked(
            "chunks between two lengths",
            both("Content-Length: 4\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n"),
            "200",
        ),
        chunked("chunks, then no length", both("Transfer-Encoding: chunked\r\nContent-Length: x\r\n"), "200"),
        chunked("length 0, then chunks", both("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), "200"),
        case("chunks in HTTP/1.0", encoded("chunked").replace("HTTP/1.1", "HTTP/1.0"), "RG-1005"),
        case("space before the colon of chunks", both("Transfer-Encoding : chunked\r\n"), "RG-1005"),
        case(
            "vertical tab before the colon of chunks",
            both("Transfer-Encoding\u{b}: chunked\r\n"),
            "RG-1005",
        ),
        case("chunks on a folded line", both("Transfer-Encoding:\r\n chunked\r\n"), "RG-1005"),
        case(
            "chunks, folded after a length",
            both("Content-Length: 5\r\n Transfer-Encoding: chunked\r\n"),
            "RG-1005",
        ),
        case("chunks behind a bare CR", both("X: x\rTransfer-Encoding: chunked\r\n"), "RG-1005"),
        chunked("chunks behind a bare LF", both("X: x\nTransfer-Encoding: chunked\r\n"), "200"),
        case("chunks behind a NUL", both("X: x\0Transfer-Encoding: chunked\r\n"), "RG-1005"),
        case(
            "underscore in place of the hyphen of chunks",
            both("Transfer_Encoding: chunked\r\n"),
            "200 RG-1005",
        )
        .body(""),
        case(
            "an encoding and a length",
            both("Transfer-Encoding: identity\r\nContent-Length: 5\r\n"),
            "RG-1005",
        ),
        chunked(
            "a GET with chunks",
            format!("{}{CHUNKED}", get("Transfer-Encoding: chunked\r\n")),
            "RG-1003",
        ),
    ];
    for value in [
        "gzip, chunked",
        "chunked, chunked",
        "identity, chunked",
        ",chunked",
        "x\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: chunked",
    ] {
        cases.push(case(format!("encoding {value:?}"), encoded(value), "RG-1005"));
    }
    for value in [
        "identity",
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        "chunked\u{b}",
        "\u{b}chunked",
        "chunked\0",
        "",
        "trailers",
        "chunked\r\nTransfer-Encoding: identity",
        "chunked\r\nTransfer-Encoding: x",
        "ch\u{fc}nked",
        "chunked gzip",
    ] {
        cases.push(case(format!("encoding {value:?}"), encoded(value), "RG-1005"));
    }
    cases
}

fn chunk_tricks() -> Vec<Case> {
    let end = "\r\n0\r\n\r\n";
    let ok = |name: &str, body: &str| chunked(name, chunks(body), "200");
    let bad = |name: &str, body: &str| chunked(name, chunks(body), "RG-1005");
    vec![
        ok("two chunks", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ok("zeroes before the size", "0000005\r\nhello\r\n000\r\n\r\n"),
        ok("spaces behind the size", &format!("5  \r\nhello{end}")),
        ok("an extension", &format!("5;a=b\r\nhello{end}")),
        ok("a quoted extension", &format!("5;a=\"b;c\"\r\nhello{end}")),
        ok(
            "trailers with names that may not be there",
            "5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: evil\r\nAuthorization: Bearer x\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        bad("a size of more than 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        bad("a negative size", &format!("-5\r\nhello{end}")),
        bad("a size with a plus", &format!("+5\r\nhello{end}")),
        bad("a size with 0x", &format!("0x5\r\nhello{end}")),
        bad("a space before the size", &format!(" 5\r\nhello{end}")),
        bad("no size", &format!("\r\nhello{end}")),
        bad("an empty size with an extension", &format!(";a=b\r\nhello{end}")),
        bad("a size that is no number", &format!("g\r\nhello{end}")),
        bad("a size of two words", &format!("5 5\r\nhello{end}")),
        bad("a size in letters of another script", &format!("\u{b2}\r\nhello{end}")),
        bad("a NUL behind the size", &format!("5\0\r\nhello{end}")),
        bad("a bare LF behind the size", &format!("5\nhello{end}")),
        bad("a bare CR behind the size", &format!("5\rhello{end}")),
        bad("a bare LF in an extension", &format!("5;a\nhello{end}")),
        bad("no line end behind the data", "5\r\nhello0\r\n\r\n"),
        bad("a bare LF behind the data", "5\r\nhello\n0\r\n\r\n"),
        bad("more data than stated", "4\r\nhello\r\n0\r\n\r\n"),
        bad("an extension of 20,000 bytes", &format!("5;{}\r\nhello{end}", "a".repeat(20_000))),
        bad("a trailer of 40,000 bytes", &format!("5\r\nhello\r\n0\r\nA: {}\r\n\r\n", "a".repeat(40_000))),
        bad("a thousand trailers", &format!("5\r\nhello\r\n0\r\n{}\r\n", "A: b\r\n".repeat(1000))),
        bad("a trailer without a colon", "5\r\nhello\r\n0\r\nno header\r\n\r\n"),
        bad("a trailer's name with a space", "5\r\nhello\r\n0\r\nA : b\r\n\r\n"),
        chunked(
            "a chunk of more than is taken",
            chunks(&format!("500001\r\n{}", "a".repeat(100_000))),
            "RG-1009",
        ),
        chunked("a chunk that does not come whole", chunks("50\r\nhello"), "RG-1005"),
        chunked("no last chunk", chunks("5\r\nhello\r\n"), "RG-1005"),
    ]
}

fn request_lines() -> Vec<Case> {
    let long = "a".repeat(2100);
    let longer = "a".repeat(70_000);
    vec![
        case("two spaces before the target", line("GET  {P} HTTP/1.1"), "RG-1005"),
        case("two spaces before the version", line("GET {P}  HTTP/1.1"), "RG-1005"),
        case("a space in front", line(" GET {P} HTTP/1.1"), "RG-1005"),
        case("a space behind", line("GET {P} HTTP/1.1 "), "RG-1005"),
        case("a tab before the target", line("GET\t{P} HTTP/1.1"), "RG-1005"),
        case("a tab before the version", line("GET {P}\tHTTP/1.1"), "RG-1005"),
        case("a bare CR in the target", line("GET {P}\rx HTTP/1.1"), "RG-1005"),
        case("a bare CR before the version", line("GET {P} \rHTTP/1.1"), "RG-1005"),
        case("a NUL in the target", line("GET {P}\0 HTTP/1.1"), "RG-1005"),
        case("a NUL in the method", line("G\0T {P} HTTP/1.1"), "RG-1005"),
        case("a control character in the target", line("GET {P}\u{1} HTTP/1.1"), "RG-1005"),
        case("bytes above 127 in the target", line("GET {P}\u{fc} HTTP/1.1"), "RG-1005"),
        case("a fragment, which is cut off", line("GET {P}#x HTTP/1.1"), "200 200"),
        case("no version", "GET {P}\r\n\r\n", "RG-1005"),
        case("no version, with headers", line("GET {P}"), "RG-1005"),
        case("no target", line("GET HTTP/1.1"), "RG-1005"),
        case("an empty target", line("GET  HTTP/1.1"), "RG-1005"),
        case("two targets", line("GET {P} {P} HTTP/1.1"), "RG-1005"),
        case("version 0.9", line("GET {P} HTTP/0.9"), "RG-1005"),
        case("version 1.2", line("GET {P} HTTP/1.2"), "RG-1005"),
        case("version 2.0", line("GET {P} HTTP/2.0"), "RG-1005"),
        case("version 1.10", line("GET {P} HTTP/1.10"), "RG-1005"),
        case("version 01.1", line("GET {P} HTTP/01.1"), "RG-1005"),
        case("version without a name", line("GET {P} /1.1"), "RG-1005"),
        case("version in small letters", line("GET {P} http/1.1"), "RG-1005"),
        case("another protocol", line("GET {P} RTSP/1.0"), "RG-1005"),
        case("version 1.0", line("GET {P} HTTP/1.0"), "200"),
        case(
            "version 1.0 without a host",
            "GET {P} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n",
            "200",
        ),
        case("version 1.0, kept", "GET {P} HTTP/1.0\r\n{H}Connection: keep-alive\r\n\r\n", "200 200"),
        case("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        case("the preface of HTTP/2, half", "PRI * HTTP/2.0\r\n\r\n", "RG-1005"),
        case("an absolute target", line("GET https://gw.example{P} HTTP/1.1"), "RG-1005"),
        case("an absolute target elsewhere", line("GET http://inside.example{P} HTTP/1.1"), "RG-1005"),
        case("an authority as target", line("GET gw.example:443 HTTP/1.1"), "RG-1005"),
        case("an asterisk as target", line("GET * HTTP/1.1"), "RG-1005"),
        case("a target without a slash", line("GET CCM_Proxy_ServerAuth/x HTTP/1.1"), "RG-1005"),
        case("a target of more than 2,048 bytes", line(&format!("GET {{P}}{long} HTTP/1.1")), "RG-1004"),
        case("a target of 70,000 bytes", line(&format!("GET {{P}}{longer} HTTP/1.1")), "RG-1008"),
        case("a method of 5,000 bytes", line(&format!("{} {{P}} HTTP/1.1", "A".repeat(5000))), "RG-1002 200"),
        case("a method of 70,000 bytes", line(&format!("{longer} {{P}} HTTP/1.1")), "RG-1008"),
        case("no method", line(" {P} HTTP/1.1"), "RG-1005"),
        case("a bare LF behind the line", "GET {P} HTTP/1.1\n{H}\r\n", "200 200"),
        case(
            "bare LF behind every line",
            "GET {P} HTTP/1.1\nHost: gw.example\nAuthorization: Bearer {token}\n\n",
            "200 200",
        ),
        case("empty lines in front", format!("\r\n\r\n{GET}"), "200 200"),
        case("a line of spaces in front", format!("   \r\n{GET}"), "RG-1005"),
        case("a TLS record", "\u{16}\u{3}\u{1}\u{0}\u{5}hello\r\n\r\n", "RG-1005"),
    ]
}

fn headers() -> Vec<Case> {
    let host =
        |host: &str| format!("GET {{P}} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {{token}}\r\n\r\n");
    let authorized =
        |value: &str| format!("GET {{P}} HTTP/1.1\r\nHost: gw\r\nAuthorization: {value}\r\n\r\n");
    let many =
        |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<Vec<_>>().concat();
    let ok = |name: &str, headers: &str| case(name, get(headers), "200 200");
    let bad = |name: &str, headers: &str| case(name, get(headers), "RG-1005");
    vec![
        bad("a space before a colon", "X : y\r\n"),
        bad("an empty name", ": y\r\n"),
        bad("no colon", "X y\r\n"),
        bad("a folded value", "X: y\r\n z\r\n"),
        bad("a folded value by a tab", "X: y\r\n\tz\r\n"),
        case(
            "a first line that begins with a space",
            "GET {P} HTTP/1.1\r\n Host: gw.example\r\n{H}\r\n",
            "RG-1005",
        ),
        bad("a NUL in a value", "X: y\0z\r\n"),
        bad("a CR in a value", "X: y\rz\r\n"),
        bad("a CR before a name", "\rX: y\r\n"),
        bad("a control character in a value", "X: y\u{1}z\r\n"),
        bad("DEL in a value", "X: y\u{7f}z\r\n"),
        bad("a control character in a name", "X\u{1}: y\r\n"),
        bad("bytes above 127 in a name", "X\u{fc}: y\r\n"),
        bad("a bracket in a name", "X(: y\r\n"),
        ok("bytes above 127 in a value", "X: \u{fc}\r\n"),
        ok("an empty value", "X:\r\n"),
        ok("a bare LF, and a header behind it", "X: y\nForwarded: for=x\r\n"),
        bad("two hosts", "Host: inside\r\n"),
        bad("the same host twice", "Host: gw.example\r\n"),
        case("no host", "GET {P} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n", "RG-1005"),
        case("an empty host", host(""), "RG-1005"),
        case("two hosts in one line", host("gw.example, inside"), "RG-1005"),
        case("a host with a user", host("a@gw.example"), "RG-1005"),
        case("a host with a path", host("gw.example/inside"), "RG-1005"),
        case("a host with a query", host("gw.example?x"), "RG-1005"),
        case("a host with bytes above 127", host("g\u{fc}.example"), "RG-1005"),
        case("a host with a port", host("gw.example:443"), "200 200"),
        case("an IPv6 address as host", host("[2001:db8::1]:443"), "200 200"),
        bad("two tokens", "Authorization: Bearer {token}\r\n"),
        case("another scheme", authorized("Basic eDp5"), "RG-1201 200"),
        case("an empty authorization", authorized(""), "RG-1201 200"),
        case("a token in bytes above 127", authorized("Bearer \u{fc}"), "RG-1005"),
        case("two tokens in one line", authorized("Bearer {token}, Bearer {token}"), "RG-1202 200"),
        case("a token on a folded line", authorized("Bearer\r\n {token}"), "RG-1005"),
        case("a token of 17,000 bytes", authorized(&format!("Bearer {}", "a".repeat(17_000))), "RG-1202 200"),
        case("a head of 40,000 bytes", get(&format!("X: {}\r\n", "a".repeat(40_000))), "RG-1008"),
        ok("sixty headers", &many(60)),
        case("sixty-three headers", get(&many(63)), "RG-1008"),
        case("six thousand headers", get(&many(6000)), "RG-1008"),
        ok("a connection header that names the token", "Connection: Authorization\r\n"),
        ok("a connection header that names what is not there", "Connection: X-Foo, keep-alive\r\n"),
        case("a connection header that closes, too", get("Connection: x, close, Authorization\r\n"), "200"),
        case("closed and kept", get("Connection: close\r\nConnection: keep-alive\r\n"), "200"),
        ok(
            "hop-by-hop headers",
            "Keep-Alive: timeout=900\r\nTE: trailers\r\nTrailer: Host\r\nProxy-Connection: close\r\nProxy-Authorization: Basic x\r\n",
        ),
        ok(
            "an upgrade to WebSocket",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
        ),
        ok(
            "an upgrade to HTTP/2",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        ),
        case(
            "an announced body",
            post("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"),
            "100 200 200",
        ),
        case(
            "an announced body in other letters",
            post("Content-Length: 5\r\nEXPECT: 100-Continue\r\n", "hello"),
            "100 200 200",
        ),
        ok("no body, announced", "Expect: 100-continue\r\n"),
        case("another expectation", post("Content-Length: 5\r\nExpect: 200-ok\r\n", "hello"), "200 200"),
        case(
            "a refused body that was announced",
            "CCM_POST {M} HTTP/1.1\r\nHost: gw\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
            "RG-1201 200",
        ),
        ok("cookies and ranges", "Cookie: a=b\r\nRange: bytes=0-1\r\n").header("range", "bytes=0-1"),
    ]
}

fn identities() -> Vec<Case> {
    let more = [
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "X-Forwarded-Server",
        "X-Forwarded-User",
        "X-Client-Cert-Chain",
        "X-Client-Verify",
        "X-SSL-Client-Verify",
        "X-SSL-Client-DN",
        "X-ARR-SSL",
        "X-Remote-User",
        "Remote-User",
        "X-Authenticated-User",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Host",
        "X-Original-Host",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Cluster-Client-IP",
        "X-ms-client-principal",
        "X-ms-token-aad-id-token",
        "X-ms-client-principal-name",
        "X-MS-Proxy",
        "roamgate-peer-certificate",
        "roamgate-request-id",
        "roamgate-reason",
        "roamgate-identity",
        "roamgate-device",
        "CMGClientCert",
        "X-Forwarded\u{2d}For",
        "X_Forwarded_For",
        "Host2",
    ];
    let names = FORGED_IDENTITY_HEADERS.iter().copied().chain(more);
    names
        .map(|name| case(format!("a forged {name}"), get(&format!("{name}: 10.0.0.1\r\n")), "200 200"))
        .chain([case(
            "a forged role certificate beside a real header",
            get("CCMClientID: GUID:x\r\nX-Client-Cert: MIIB\r\n"),
            "200 200",
        )
        .header("ccmclientid", "GUID:x")])
        .collect()
}

fn paths() -> Vec<Case> {
    let mut cases = vec![
        case(
            "another case",
            line("GET /ccm_proxy_SERVERAUTH/{role}/sms_mp_tokenauth/.SMS_AUT?case={n} HTTP/1.1"),
            "200 200",
        ),
        case("encoded line ends in the query", line("GET {P}%0d%0aHost:%20inside HTTP/1.1"), "200 200"),
        case("an address in the query", line("GET {P}?http://inside/../x HTTP/1.1"), "200 200"),
        case("two slashes in front", line("GET //inside{P} HTTP/1.1"), "RG-1001 200"),
        case("a backslash", at("/SMS_MP_TokenAuth\\.sms_aut?case={n}"), "RG-1005"),
        case("a backslash in front", line("GET \\{P} HTTP/1.1"), "RG-1005"),
        case("bytes of overlong UTF-8", at("/\u{c0}\u{ae}\u{c0}\u{ae}/CCM_STS?case={n}"), "RG-1005"),
    ];
    for path in [
        "/SMS_MP_TokenAuth/%2e%2e/SMS_MP_TokenAuth/.sms_aut",
        "/SMS_MP_TokenAuth/%2E%2E/x",
        "/SMS_MP_TokenAuth/../SMS_MP_TokenAuth/.sms_aut",
        "/SMS_MP_TokenAuth/./.sms_aut",
        "/SMS_MP_TokenAuth//.sms_aut",
        "//SMS_MP_TokenAuth/.sms_aut",
        "/SMS_MP_TokenAuth/.sms_aut/",
        "/SMS_MP_TokenAuth/.sms_aut.",
        "/SMS_MP_TokenAuth/.sms_aut%00",
        "/SMS_MP_TokenAuth/.sms_aut%20",
        "/SMS_MP_TokenAuth/.sms_aut;x=y",
        "/SMS_MP_TokenAuth;x/.sms_aut",
        "/SMS_MP_TokenAuth%2f.sms_aut",
        "/SMS_MP_TokenAuth%2F.sms_aut",
        "/SMS_MP_TokenAuth%5c.sms_aut",
        "/SMS_MP_TokenAuth/%2esms_aut",
        "/SMS_MP_TokenAuth/%252esms_aut",
        "/SMS_MP_TokenAuth/%c0%aesms_aut",
        "/SMS_MP_TokenAuth/%u002esms_aut",
        "/SMS_MP_TokenAuth/.sms_aut%3fx",
        "/SMS_MP_TokenAuth/.sms_aut%0d%0aHost:x",
        "/SMS_MP_Token%41uth/.sms_aut",
        "/ccm_system_windowsauth/request",
        "/ccm_system_altauth/request",
        "/../../ccm_system_windowsauth/request",
    ] {
        cases.push(case(format!("path {path}"), at(&format!("{path}?case={{n}}")), "RG-1001 200"));
    }
    for start in [
        "/CCM_Proxy_ServerAuth/0{role}",
        "/CCM_Proxy_ServerAuth/+{role}",
        "/CCM_Proxy_ServerAuth/-1",
        "/CCM_Proxy_ServerAuth/0",
        "/CCM_Proxy_ServerAuth/99999999999999999999999",
        "/CCM_Proxy_ServerAuth/72057594037927999",
        "/CCM_Proxy_ServerAuth/inside.example",
        "/CCM_Proxy_ServerAuth//{role}",
        "/CCM_Proxy_ServerAuth/%37{role}",
        "/CCM_Proxy_OtherAuth/{role}",
        "/CCM%5fProxy_ServerAuth/{role}",
        "/x/../CCM_Proxy_ServerAuth/{role}",
        "",
    ] {
        let target = format!("GET {start}/SMS_MP_TokenAuth/.sms_aut?case={{n}} HTTP/1.1");
        cases.push(case(format!("start {start}"), line(&target), "RG-1001 200"));
    }
    cases
}

fn methods() -> Vec<Case> {
    let mut cases = vec![
        case("HEAD", line("HEAD {P} HTTP/1.1"), "200 200"),
        case("CONNECT to elsewhere", line("CONNECT inside.example:443 HTTP/1.1"), "RG-1005"),
        case("CONNECT to a path", line("CONNECT {P} HTTP/1.1"), "RG-1002 200"),
        case("OPTIONS of everything", line("OPTIONS * HTTP/1.1"), "RG-1005"),
        case("small letters", line("get {P} HTTP/1.1"), "RG-1002 200"),
        case(
            "a method of the protocol in small letters",
            "ccm_post {M} HTTP/1.1\r\n{H}Content-Length: 5\r\n\r\nhello",
            "RG-1002 200",
        ),
    ];
    for method in [
        "TRACE",
        "TRACK",
        "PUT",
        "DELETE",
        "PATCH",
        "POST",
        "PROPFIND",
        "OPTIONS",
        "BITS_POST",
        "GETX",
        "PRI",
        "!#$%&'*+.^_`|~",
    ] {
        cases.push(case(method, line(&format!("{method} {{P}} HTTP/1.1")), "RG-1002 200"));
    }
    cases
}
