"""OpenAI's Python client through the gate."""

import openai

from orders import EMBEDDER, KEY, MESSAGES, MODEL, UNKNOWN_MODEL, URL, WRONG_KEY, failure, tell


def client(key):
    return openai.OpenAI(base_url=f"{URL}/v1", api_key=key, max_retries=0)


gate = client(KEY)
chat = gate.chat.completions.create
stream = chat(model=MODEL, messages=MESSAGES, temperature=0, stream=True, stream_options={"include_usage": True})
parts, usage = [], None
for chunk in stream:
    usage = chunk.usage or usage
    parts += [choice.delta.content for choice in chunk.choices if choice.delta.content]
tell(
    chat=chat(model=MODEL, messages=MESSAGES, temperature=0).choices[0].message.content,
    stream="".join(parts),
    parts=len(parts),
    tokens=usage.completion_tokens,
    vectors=[len(entry.embedding) for entry in gate.embeddings.create(model=EMBEDDER, input=["one", "two"]).data],
    models=[model.id for model in gate.models.list()],
    show=gate.models.retrieve(MODEL).object,
    wrong_key=failure(lambda: client(WRONG_KEY).models.list(), openai.AuthenticationError),
    unknown_model=failure(lambda: chat(model=UNKNOWN_MODEL, messages=MESSAGES), openai.NotFoundError),
)
