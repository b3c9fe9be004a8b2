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
