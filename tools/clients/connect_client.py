"""Ollama's own Python client as it finds an Ollama of this machine: it knows OLLAMA_HOST and no key."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import ollama

MODEL = os.environ["MODEL"]
MESSAGES = [{"role": "user", "content": "hi"}]


def streamed(_turn):
    return [part.message.content for part in ollama.chat(model=MODEL, messages=MESSAGES, stream=True)]


def unknown():
    try:
        ollama.show(MODEL + "x")
    except ollama.ResponseError as error:
        return error.status_code


with ThreadPoolExecutor(20) as many:
    together = list(many.map(streamed, range(20)))
print(
    json.dumps(
        {
            "models": [model.model for model in ollama.list().models],
            "loaded": [model.model for model in ollama.ps().models],
            "family": ollama.show(MODEL).details.family,
            "generated": ollama.generate(model=MODEL, prompt="hi").response,
            "chat": ollama.chat(model=MODEL, messages=MESSAGES).message.content,
            "together": together,
            "vectors": [len(vector) for vector in ollama.embed(model=os.environ["EMBEDDER"], input=["a", "b"]).embeddings],
            "pulled": [[part.status, part.completed] for part in ollama.pull("qwen3", stream=True)],
            "unknown": unknown(),
        }
    )
)
