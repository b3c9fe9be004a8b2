//! Names that people and devices give: bounded, printable, data and nothing else (R28).

use proto::limits::NAME_CHARS;

/// A name that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct NameError {
    /// Which value.
    pub field: &'static str,
    problem: &'static str,
}

/// Checks a name that may be empty: length, and no control character. Right-to-left overrides
/// and other invisible format characters count as control: they make one name look like another.
pub(crate) fn check_text(field: &'static str, text: &str) -> Result<(), NameError> {
    if text.chars().count() > NAME_CHARS {
        return Err(NameError { field, problem: "is longer than 255 characters" });
    }
    if text.chars().any(|c| c.is_control() || is_format(c)) {
        return Err(NameError { field, problem: "holds control characters" });
    }
    Ok(())
}

/// Checks a name that must not be empty.
pub(crate) fn check_name(field: &'static str, text: &str) -> Result<(), NameError> {
    if text.trim().is_empty() {
        return Err(NameError { field, problem: "is empty" });
    }
    check_text(field, text)
}

/// Checks `host` or `host:port`, as it stands in addresses.
pub(crate) fn check_host(field: &'static str, text: &str) -> Result<(), NameError> {
    check_name(field, text)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if text.chars().all(allowed) {
        Ok(())
    } else {
        Err(NameError { field, problem: "is no host or host:port" })
    }
}

/// Checks a base URL: `http://` or `https://`, a host, nothing behind it (R44: no path or
/// credentials of anybody's choosing).
pub(crate) fn check_base_url(field: &'static str, text: &str) -> Result<(), NameError> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let problem = NameError { field, problem: "is no base URL such as http://mp1.example.org:80" };
    check_host(field, host.ok_or_else(|| problem.clone())?).map_err(|_| problem)
}

/// Checks an absolute address with one of these schemes and a host: no credentials, query or
/// fragment, no character that could end it early.
pub(crate) fn check_url(field: &'static str, text: &str, schemes: &[&str]) -> Result<(), NameError> {
    check_name(field, text)?;
    let form = match schemes {
        ["https"] => "is no address such as https://login.example.org/tenant; it must be https://",
        ["ldap", "ldaps"] => "is no address such as ldaps://dc1.example.org; it must be ldap:// or ldaps://",
        _ => "is no address such as http://pki.example.org/ca.crl; it must be http:// or https://",
    };
    let problem = NameError { field, problem: form };
    let (scheme, rest) = text.split_once("://").ok_or_else(|| problem.clone())?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    check_host(field, host).map_err(|_| problem.clone())?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~%:+,=".contains(c);
    let fits = schemes.contains(&scheme) && path.chars().all(plain) && !path.contains("..");
    if fits { Ok(()) } else { Err(problem) }
}

fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused_and_odd_ones_are_data() {
        for wrong in ["a\0b", "a\nb", "\u{202e}gpj.exe", "a\u{200b}b", &"x".repeat(256)] {
            assert!(check_text("name", wrong).is_err(), "{wrong:?}");
        }
        for odd in ["", "'; DROP TABLE device;--", "<script>", "=1+1", "ß", &"ü".repeat(255)] {
            assert!(check_text("name", odd).is_ok(), "{odd:?}");
        }
        assert!(check_name("name", "  ").is_err());
    }

    #[test]
    fn an_address_has_a_host_and_a_path_and_nothing_else() {
        for good in ["https://login.example.org/9a/v2.0", "https://127.0.0.1:8443", "https://[::1]:1/a"] {
            assert!(check_url("url", good, &["https"]).is_ok(), "{good}");
        }
        for wrong in
            ["http://a/b", "https://", "https://u@a", "https://a/?b", "https://a/#b", "https://a/b c", "a"]
        {
            assert!(check_url("url", wrong, &["https"]).is_err(), "{wrong}");
        }
        assert!(check_url("url", "ldaps://dc1:636", &["ldap", "ldaps"]).is_ok());
    }

    #[test]
    fn a_base_url_names_a_host_and_nothing_else() {
        for good in ["http://127.0.0.1:80", "https://mp1.example.org", "http://[::1]:8080"] {
            assert!(check_base_url("url", good).is_ok(), "{good}");
        }
        for wrong in ["", "ftp://a", "http://", "http://a/b", "http://u@a", "http://a?b", "http://a b", "mp1"]
        {
            assert!(check_base_url("url", wrong).is_err(), "{wrong}");
        }
    }
}
