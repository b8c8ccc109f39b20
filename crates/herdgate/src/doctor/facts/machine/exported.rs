//! Variables of an Ollama server that are set around this program: in a shell, where the service never sees them.

use super::services::Variables;
use std::env;

/// What `ollama serve` alone reads, so that nobody exports it for a client.
const NAMES: [&str; 8] = [
    "OLLAMA_NUM_PARALLEL",
    "OLLAMA_MAX_LOADED_MODELS",
    "OLLAMA_MAX_QUEUE",
    "OLLAMA_KEEP_ALIVE",
    "OLLAMA_LOAD_TIMEOUT",
    "OLLAMA_FLASH_ATTENTION",
    "OLLAMA_KV_CACHE_TYPE",
    "OLLAMA_MODELS",
];

/// Those with a value that any shell and any unit takes as it is.
pub(super) fn look() -> Variables {
    let is_plain = |value: &String| {
        let is_one = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte);
        !value.is_empty() && value.bytes().all(is_one)
    };
    let set = |name: &&str| Some(((*name).to_owned(), env::var(name).ok().filter(is_plain)?));
    NAMES.iter().filter_map(set).collect()
}
