//! Where a certificate says that its issuer's revocation lists are.

use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::limits;

/// The names (URIs of any scheme) of a certificate's distribution points, those of other list issuers
/// and of some reasons only left out: such points do not lead to a whole list of this issuer.
pub(super) fn names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let points = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CRLDistributionPoints(points) => Some(points.iter()),
        _ => None,
    });
    let whole = points.flatten().filter(|point| point.reasons.is_none() && point.crl_issuer.is_none());
    let names = whole.filter_map(|point| match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names.iter()),
        _ => None,
    });
    names
        .flatten()
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.len() <= limits::DISTRIBUTION_POINT_CHARS => Some((*uri).to_owned()),
            _ => None,
        })
        .take(limits::DISTRIBUTION_POINTS)
        .collect()
}

/// Those of [`names`] from which a list can be fetched: `http:` and `https:`, in plain characters.
pub(super) fn urls(certificate: &[u8]) -> Vec<String> {
    let mut urls = names(certificate);
    urls.retain(|url| {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        matches!(scheme.as_deref(), Some("http" | "https")) && url.bytes().all(|byte| byte.is_ascii_graphic())
    });
    urls
}
