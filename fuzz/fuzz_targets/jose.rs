//! Tokens and key sets of identity providers, with no tenant onboarded: nothing may be accepted, and
//! nothing may panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proto::entra::TenantSet;
use proto::jose::JwkSet;

fuzz_target!(|text: &str| {
    let _ = TenantSet::looks_like(text);
    assert!(TenantSet::default().verify(text).is_err());
    let _ = JwkSet::parse(text.as_bytes());
});
