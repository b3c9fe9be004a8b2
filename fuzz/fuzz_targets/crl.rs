//! Revocation lists and the certificates around them, as somebody may give them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::pki::{Crl, TrustStore, Usage};
use proto::time::Timestamp;

fuzz_target!(|data: &[u8]| {
    let now = Timestamp::from_seconds(1_800_000_000);
    if let Ok(crl) = Crl::parse(data) {
        let _ = crl.verify(data, None, now);
    }
    let _ = Crl::distribution_points(data);
    assert!(TrustStore::default().judge(&[data.to_vec()], Usage::Client, now).is_err());
});
