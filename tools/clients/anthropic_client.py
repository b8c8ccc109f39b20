"""Anthropic's Python client through the gate. It has no vectors, and its list of models is another than OpenAI's."""

import anthropic

from orders import KEY, MESSAGES, MODEL, UNKNOWN_MODEL, URL, WRONG_KEY, failure, tell


def client(**credential):
    return anthropic.Anthropic(base_url=URL, max_retries=0, **credential)


# This client no longer knows a temperature by itself; the servers behind the gate do.
ORDERS = {"max_tokens": 200, "messages": MESSAGES, "extra_body": {"temperature": 0}}


def create(gate, model=MODEL):
    return gate.messages.create(model=model, **ORDERS)


gate = client(api_key=KEY)
parts = []
with gate.messages.stream(model=MODEL, **ORDERS) as stream:
    parts = list(stream.text_stream)
    final = stream.get_final_message()
tell(
    chat=create(gate).content[0].text,
    stream="".join(parts),
    parts=len(parts),
    tokens=final.usage.output_tokens,
    stop=final.stop_reason,
    bearer=create(client(auth_token=KEY, api_key=None)).content[0].text,
    models=[model.id for model in gate.models.list()],
    wrong_key=failure(lambda: create(client(api_key=WRONG_KEY)), anthropic.AuthenticationError),
    unknown_model=failure(lambda: create(gate, UNKNOWN_MODEL), anthropic.NotFoundError),
)
