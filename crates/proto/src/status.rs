//! Status texts: the HTTP/1.1 reason phrase by which the field knows who refused.
//!
//! `CMGService_…` was decided at the gateway; `CMGConnector_…` is the management point's own
//! phrase, passed on by the connection point without its spaces [docs, derived].

/// Refused at the gateway: token missing, wrong, expired or without its key.
pub const INVALID_TOKEN: &str = "CMGService_Invalid_Token";
/// Refused at the gateway: client certificate missing or not trusted.
pub const INVALID_CLIENT_CERTIFICATE: &str = "CMGService_Invalid_Client_Certificate";
/// The management point answered 401.
pub const CONNECTOR_UNAUTHORIZED: &str = "CMGConnector_Unauthorized";
/// The management point asked for a client certificate.
pub const CONNECTOR_CERTIFICATE_REQUIRED: &str = "CMGConnector_Clientcertificaterequired";
/// The management point answered 403.
pub const CONNECTOR_FORBIDDEN: &str = "CMGConnector_Forbidden";
/// The token service refused, for instance a user that is not completely discovered.
pub const CONNECTOR_UNAUTHORIZED_REQUEST: &str = "CMGConnector_Un-authorizedrequest";
/// The management point answered 500.
pub const CONNECTOR_INTERNAL_SERVER_ERROR: &str = "CMGConnector_InternalServerError";

/// The phrase that a connection point gives to a refusal of the management point:
/// `CMGConnector_` and the phrase without its spaces. Bytes that no reason phrase may
/// hold are dropped, and the whole is at most 128 characters.
pub fn connector_phrase(management_point_phrase: &str) -> String {
    let kept = management_point_phrase.chars().filter(char::is_ascii_graphic).take(115);
    std::iter::once("CMGConnector_".to_owned()).chain(kept.map(String::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_phrases_follow_from_the_rule() {
        for (phrase, expected) in [
            ("Unauthorized", CONNECTOR_UNAUTHORIZED),
            ("Client certificate required", CONNECTOR_CERTIFICATE_REQUIRED),
            ("Forbidden", CONNECTOR_FORBIDDEN),
            ("Un-authorized request", CONNECTOR_UNAUTHORIZED_REQUEST),
            ("Internal Server Error", CONNECTOR_INTERNAL_SERVER_ERROR),
        ] {
            assert_eq!(connector_phrase(phrase), expected);
        }
        assert_eq!(connector_phrase("a\r\nSet-Cookie: x"), "CMGConnector_aSet-Cookie:x");
    }
}
