"""Ollama's own Python client through the gate."""

import ollama

from orders import EMBEDDER, KEY, MESSAGES, MODEL, UNKNOWN_MODEL, URL, WRONG_KEY, failure, tell


def client(key):
    return ollama.Client(host=URL, headers={"Authorization": f"Bearer {key}"})


gate = client(KEY)
options = {"temperature": 0}
parts = [part.message.content for part in gate.chat(model=MODEL, messages=MESSAGES, options=options, stream=True)]
tell(
    chat=gate.chat(model=MODEL, messages=MESSAGES, options=options).message.content,
    stream="".join(parts),
    parts=len(parts),
    vectors=[len(vector) for vector in gate.embed(model=EMBEDDER, input=["one", "two"]).embeddings],
    models=[model.model for model in gate.list().models],
    show=gate.show(MODEL).details.family,
    wrong_key=failure(lambda: client(WRONG_KEY).list(), ollama.ResponseError),
    unknown_model=failure(lambda: gate.chat(model=UNKNOWN_MODEL, messages=MESSAGES), ollama.ResponseError),
)
