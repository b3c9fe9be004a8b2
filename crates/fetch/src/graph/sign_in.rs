//! The discovery app's token: by its secret (`client_credentials`).

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};

use super::client::GraphSource;
use super::error::SignInError;
use crate::openid::{TIME, fetch_document};
use crate::outbound::Outbound;

/// Longest answer of the token endpoint.
const ANSWER_BYTES: usize = 256 * 1024;

#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    token_type: String,
}

fn secret<'de, D: Deserializer<'de>>(text: D) -> Result<SecretString, D::Error> {
    String::deserialize(text).map(SecretString::from)
}

#[derive(Deserialize, Default)]
struct Refused {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_codes: Vec<u64>,
}

/// Asks for a token for the lists.
pub(super) async fn sign_in(
    outbound: &Outbound,
    source: &GraphSource,
    origin: &str,
) -> Result<SecretString, SignInError> {
    let document = fetch_document(outbound, &source.authority).await?;
    let endpoint = document.token_endpoint.filter(|url| url.starts_with("https://"));
    let endpoint = endpoint.ok_or(SignInError::NoEndpoint)?;
    let form = form(source, origin, &endpoint);
    let answer =
        outbound.post_form(&endpoint, &form, ANSWER_BYTES, TIME).await.map_err(SignInError::Fetch)?;
    if answer.status.is_success() {
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| SignInError::NoToken)?;
        let bearer = granted.token_type.eq_ignore_ascii_case("bearer");
        return if bearer { Ok(granted.access_token) } else { Err(SignInError::NoToken) };
    }
    let status = answer.status;
    match serde_json::from_slice::<Refused>(&answer.body) {
        Ok(refused) if !refused.error.is_empty() => {
            let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            let error = refused.error.chars().filter(plain).take(60).collect();
            Err(SignInError::Refused { error, code: refused.error_codes.first().copied().unwrap_or(0) })
        }
        _ => Err(SignInError::Refused { error: format!("status {}", status.as_u16()), code: 0 }),
    }
}

fn form(source: &GraphSource, origin: &str, endpoint: &str) -> SecretString {
    // The first version of the endpoint knows no scopes, the second no resources.
    let aim = if endpoint.ends_with("/oauth2/token") {
        ("resource", origin.to_owned())
    } else {
        ("scope", format!("{origin}/.default"))
    };
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", &source.app_id),
        ("client_secret", source.secret.expose_secret()),
        (aim.0, &aim.1),
    ];
    let mut form = String::new();
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        encode(value, &mut form);
    }
    SecretString::from(form)
}

/// Percent-encodes everything but letters, digits and `-._~`.
pub(super) fn encode(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> GraphSource {
        GraphSource {
            authority: "https://login.example/t/v2.0".to_owned(),
            graph_url: "https://graph.example".to_owned(),
            app_id: "app".to_owned(),
            secret: SecretString::from("a+b&c=d".to_owned()),
        }
    }

    #[test]
    fn the_two_versions_of_the_endpoint_are_asked_in_their_own_words() {
        let text =
            |endpoint: &str| form(&source(), "https://graph.example", endpoint).expose_secret().to_owned();
        assert_eq!(
            text("https://login.example/t/oauth2/v2.0/token"),
            "grant_type=client_credentials&client_id=app&client_secret=a%2Bb%26c%3Dd\
             &scope=https%3A%2F%2Fgraph.example%2F.default"
        );
        assert!(
            text("https://login.example/t/oauth2/token").ends_with("&resource=https%3A%2F%2Fgraph.example")
        );
    }

    #[test]
    fn nothing_that_is_printed_shows_the_secret() {
        let form = form(&source(), "https://graph.example", "https://e");
        for shown in [format!("{:?}", source()), format!("{form:?}")] {
            assert!(!shown.contains("a+b") && !shown.contains("a%2B"), "{shown}");
        }
    }
}
