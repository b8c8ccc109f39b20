//! Ollama's own library for JavaScript, in Node.

use super::{Filled, fetch};

pub(super) fn text(filled: &Filled<'_>) -> String {
    let head = filled.head(
        "//",
        "herdgate from Node, by Ollama's own library: `npm install ollama undici@7`.",
        &["Run by herdgate's tests with ollama 0.6.4 and undici 7.30.2, in Node 20.", fetch::WHY_UNDICI],
    );
    format!(
        "{head}\nimport {{ readFileSync }} from 'node:fs'\nimport {{ fileURLToPath }} from 'node:url'\nimport {{ Ollama }} from 'ollama'\nimport {{ Agent, fetch }} from 'undici'\n\n{}\n\
         export const gate = new Ollama({{\n  \
         host: GATE,\n  \
         headers: {{ Authorization: `Bearer ${{key()}}` }},\n  \
         fetch: (url, options) => fetch(url, {{ ...options, dispatcher }}),\n\
         }})\n\n\
         {}",
        fetch::constants(filled),
        fetch::main(
            "const messages = [{ role: 'user', content: question }]\n  \
             for await (const part of await gate.chat({ model: MODEL, messages, stream: true })) process.stdout.write(part.message.content)"
        ),
    )
}
