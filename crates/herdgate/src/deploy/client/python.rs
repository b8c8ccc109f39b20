//! Ollama's own library for Python.

use super::Filled;

pub(super) fn text(filled: &Filled<'_>) -> String {
    let head = filled.head(
        "#",
        "herdgate from Python, by Ollama's own library: `pip install ollama` (0.6 or newer).",
        &["Run by herdgate's tests with ollama 0.6.3. ollama.AsyncClient takes the same words as ollama.Client."],
    );
    let ssl = if filled.ca().is_some() { "import ssl\n" } else { "" };
    format!(
        "{head}\nimport os\n{ssl}import sys\nfrom pathlib import Path\n\nimport httpx\nimport ollama\n\n{}\n\n\
         gate = ollama.Client(\n    \
         host=GATE,\n    \
         headers={{\"Authorization\": f\"Bearer {{key()}}\"}},\n    \
         # Between two words, not for the whole answer.\n    \
         timeout=httpx.Timeout(WAIT, connect=10),\n\
         {})\n\n\
         if __name__ == \"__main__\":\n    \
         question = \" \".join(sys.argv[1:]) or \"Why is the sky blue?\"\n    \
         messages = [{{\"role\": \"user\", \"content\": question}}]\n    \
         for part in gate.chat(model=MODEL, messages=messages, stream=True):\n        \
         print(part.message.content or \"\", end=\"\", flush=True)\n    \
         print()\n",
        constants(filled),
        verify(filled, 4),
    )
}

/// Address, model, time, and where the key comes from.
pub(super) fn constants(filled: &Filled<'_>) -> String {
    let ca = filled.ca().map_or_else(String::new, |file| {
        format!("# The gate's own authority, which it alone is checked by.\nCA = \"{file}\"\n")
    });
    format!(
        "GATE = \"{}\"\nMODEL = \"{}\"\nWAIT = {}\n{ca}\n\n\
         def key():\n    \
         \"\"\"From HERDGATE_KEY, else from the file that HERDGATE_KEY_FILE names, else from {file} beside this program.\"\"\"\n    \
         file = os.environ.get(\"HERDGATE_KEY_FILE\") or Path(__file__).with_name(\"{file}\")\n    \
         return (os.environ.get(\"HERDGATE_KEY\") or Path(file).read_text()).strip()\n",
        filled.url(),
        filled.model(),
        filled.seconds(),
        file = filled.key_file(),
    )
}

fn verify(filled: &Filled<'_>, indent: usize) -> String {
    match filled.ca() {
        Some(_) => format!("{:indent$}verify=ssl.create_default_context(cafile=CA),\n", ""),
        None => String::new(),
    }
}
