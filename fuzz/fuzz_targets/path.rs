//! Addresses of requests at a gateway and at a role.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|target: &str| {
    if let Ok(proto::path::External::Role { path, .. }) = proto::path::parse_external(target) {
        // What is forwarded reads as the same endpoint.
        let forwarded = path.target();
        let again = proto::path::parse_role_path(&forwarded).expect("our own spelling");
        assert_eq!(again.endpoint.path, path.endpoint.path);
    }
});
