//! LangChain for Python: `ChatOllama`, which hands on what Ollama's library takes.

use super::{Filled, python};

pub(super) fn text(filled: &Filled<'_>) -> String {
    let head = filled.head(
        "#",
        "herdgate from LangChain: `pip install langchain-ollama` (1.0 or newer).",
        &[
            "Run by herdgate's tests with langchain-ollama 1.1.0.",
            "OllamaEmbeddings takes base_url and client_kwargs as ChatOllama does.",
        ],
    );
    let (ssl, verify) = match filled.ca() {
        Some(_) => ("import ssl\n", "        \"verify\": ssl.create_default_context(cafile=CA),\n"),
        None => ("", ""),
    };
    format!(
        "{head}\nimport os\n{ssl}import sys\nfrom pathlib import Path\n\nimport httpx\nfrom langchain_ollama import ChatOllama\n\n{}\n\n\
         model = ChatOllama(\n    \
         base_url=GATE,\n    \
         model=MODEL,\n    \
         client_kwargs={{\n        \
         \"headers\": {{\"Authorization\": f\"Bearer {{key()}}\"}},\n        \
         # Between two words, not for the whole answer.\n        \
         \"timeout\": httpx.Timeout(WAIT, connect=10),\n\
         {verify}    \
         }},\n)\n\n\
         if __name__ == \"__main__\":\n    \
         question = \" \".join(sys.argv[1:]) or \"Why is the sky blue?\"\n    \
         for part in model.stream(question):\n        \
         print(part.content, end=\"\", flush=True)\n    \
         print()\n",
        python::constants(filled),
    )
}
