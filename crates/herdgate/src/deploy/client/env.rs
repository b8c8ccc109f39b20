//! A `.env` file that shells, compose and libraries read alike: a name, `=`, and a text without quotes.

use super::Filled;

pub(super) fn text(filled: &Filled<'_>) -> String {
    let connect = format!(
        "Programs that send no key find the gate at http://127.0.0.1:11434 while this runs with HERDGATE_KEY: `{}`",
        filled.connect()
    );
    let head = filled.head(
        "#",
        "herdgate as variables, for shells (`set -a; . ./.env`), compose and libraries. Not for the gate's own environment.",
        &[
            "Run by herdgate's tests with bash, docker-compose 1.29 and ollama 0.6.3 for Python.",
            &connect,
            "OpenAI's and Anthropic's libraries wait 600 s, unless they are given a timeout.",
        ],
    );
    let (url, model) = (filled.url(), filled.model());
    let keys = match filled.secret() {
        Some(secret) => format!(
            "\n# The key, by the names that programs look for: whoever reads this file may use it (chmod 600).\n\
             HERDGATE_KEY={secret}\nOLLAMA_API_KEY={secret}\nOPENAI_API_KEY={secret}\nANTHROPIC_AUTH_TOKEN={secret}\n"
        ),
        None => {
            "\n# The key belongs into lines of its own behind these, by the names that programs look for:\n\
                 # HERDGATE_KEY, OLLAMA_API_KEY, OPENAI_API_KEY, ANTHROPIC_AUTH_TOKEN\n"
                .to_owned()
        }
    };
    let ca = filled.ca().map_or_else(String::new, |file| {
        format!(
            "\n# The gate's own authority. Node believes it beside the others; what is behind SSL_CERT_FILE (Python's httpx, OpenSSL, Go) or\n\
             # CURL_CA_BUNDLE (curl) would be believed alone, so set them only for programs that ask nobody else.\n\
             NODE_EXTRA_CA_CERTS={file}\n# SSL_CERT_FILE={file}\n# CURL_CA_BUNDLE={file}\n"
        )
    });
    format!(
        "{head}\nOLLAMA_URL={url}\nOLLAMA_BASE_URL={url}\n# Read by Ollama's library for Python, and by `ollama` itself: not where `ollama serve` is started.\n\
         OLLAMA_HOST={url}\nOLLAMA_MODEL={model}\nOPENAI_BASE_URL={url}/v1\nANTHROPIC_BASE_URL={url}\n{ca}{keys}"
    )
}
