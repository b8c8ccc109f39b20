//! `fetch` in Node, and what of it is for pages: a stream read line by line, with its end and its errors.

use super::Filled;

pub(super) const WHY_UNDICI: &str = "Node's own fetch gives up after 300 s without a word and has no setting for that; its engine, undici, has one as a package.";

pub(super) fn text(filled: &Filled<'_>) -> String {
    let head = filled.head(
        "//",
        "herdgate by fetch, without a library of Ollama's: `npm install undici@7`.",
        &[
            "Run by herdgate's tests with undici 7.30.2, in Node 20.",
            WHY_UNDICI,
            "In a page there are no imports, no dispatcher and no file for the key: its origin must be in cors.origins, and whoever opens it \
             reads its key. Better let a server of the page ask the gate.",
        ],
    );
    format!(
        "{head}\nimport {{ readFileSync }} from 'node:fs'\nimport {{ fileURLToPath }} from 'node:url'\nimport {{ Agent, fetch }} from 'undici'\n\n{}\n\
         /** The words of an answer as they come. Throws what the gate says is wrong, also in the middle of an answer. */\n\
         export async function* chat(messages) {{\n  \
         const answer = await fetch(`${{GATE}}/api/chat`, {{\n    \
         method: 'POST',\n    \
         headers: {{ Authorization: `Bearer ${{key()}}`, 'Content-Type': 'application/json' }},\n    \
         body: JSON.stringify({{ model: MODEL, messages, stream: true }}),\n    \
         dispatcher,\n  \
         }})\n  \
         if (!answer.ok) throw new Error(`${{answer.status}}: ${{await answer.text()}}`)\n  \
         const decoder = new TextDecoder()\n  \
         let rest = ''\n  \
         let isDone = false\n  \
         // A piece of the network is no line: what is behind the last end of a line waits for the next piece.\n  \
         for await (const piece of answer.body) {{\n    \
         const lines = (rest + decoder.decode(piece, {{ stream: true }})).split('\\n')\n    \
         rest = lines.pop()\n    \
         for (const line of lines.filter(Boolean)) {{\n      \
         const part = JSON.parse(line)\n      \
         if (part.error) throw new Error(part.error)\n      \
         if (part.message?.content) yield part.message.content\n      \
         isDone ||= part.done\n    \
         }}\n  \
         }}\n  \
         if (!isDone) throw new Error('the answer broke off')\n\
         }}\n\n\
         {}",
        constants(filled),
        main(
            "for await (const words of chat([{ role: 'user', content: question }])) process.stdout.write(words)"
        ),
    )
}

/// What runs where the file is a program and not a part of one.
pub(super) fn main(line: &str) -> String {
    format!(
        "if (process.argv[1] === fileURLToPath(import.meta.url)) {{\n  \
         const question = process.argv.slice(2).join(' ') || 'Why is the sky blue?'\n  \
         {line}\n  \
         process.stdout.write('\\n')\n\
         }}\n"
    )
}

/// Address, model, the dispatcher with its times, and where the key comes from.
pub(super) fn constants(filled: &Filled<'_>) -> String {
    let connect = filled.ca().map_or_else(
        || "connect: { timeout: 10_000 },".to_owned(),
        |file| format!("// The gate's own authority, which it alone is checked by.\n  connect: {{ timeout: 10_000, ca: readFileSync('{file}') }},"),
    );
    format!(
        "const GATE = '{}'\nconst MODEL = '{}'\nconst WAIT = {}\n\n\
         const dispatcher = new Agent({{\n  \
         // Until the first word, and between two.\n  \
         headersTimeout: WAIT,\n  \
         bodyTimeout: WAIT,\n  \
         {connect}\n\
         }})\n\n\
         /** From HERDGATE_KEY, else from the file that HERDGATE_KEY_FILE names, else from {file} beside this program. */\n\
         function key() {{\n  \
         const file = process.env.HERDGATE_KEY_FILE || new URL('{file}', import.meta.url)\n  \
         return (process.env.HERDGATE_KEY || readFileSync(file, 'utf8')).trim()\n\
         }}\n",
        filled.url(),
        filled.model(),
        grouped(filled.milliseconds()),
        file = filled.key_file(),
    )
}

/// `660_000`
fn grouped(number: u64) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{}_{:03}", grouped(number / 1000), number % 1000)
    }
}
