#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| herdgate_fuzz::h1_proxy(bytes));
