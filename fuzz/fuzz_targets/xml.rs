//! XML as every body is read: no document types, no entities but the five, bounded depth.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = proto::text::xml::check_xml(text);
});
