#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| comity_testkit::fuzzing::authority_state(data));
