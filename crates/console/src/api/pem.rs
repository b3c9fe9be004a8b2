//! Certificates and revocation lists as PEM.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A certificate as RFC 7468 writes it: 64 characters a line.
pub(super) fn certificate(der: &[u8]) -> String {
    write("CERTIFICATE", der)
}

/// A revocation list, likewise.
pub(super) fn revocation_list(der: &[u8]) -> String {
    write("X509 CRL", der)
}

fn write(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END ");
    pem.push_str(label);
    pem.push_str("-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_64_characters_and_the_last_one_the_rest() {
        let pem = certificate(&[0; 60]);
        let lines: Vec<_> = pem.lines().collect();
        assert_eq!((lines.len(), lines[1].len(), lines[2].len()), (4, 64, 16));
        assert!(pem.ends_with("-----END CERTIFICATE-----\n"));
    }
}
