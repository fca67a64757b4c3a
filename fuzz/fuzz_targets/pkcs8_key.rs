#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| comity_testkit::fuzzing::pkcs8_key(data));
