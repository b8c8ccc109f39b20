#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| herdgate_fuzz::config_ollama_host(bytes));
