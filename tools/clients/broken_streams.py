"""What the Python clients make of streams whose model gives up: how many parts came, and the error that is raised."""

import anthropic
import ollama
import openai

from orders import KEY, MESSAGES, MODEL, URL, tell


def taken(stream, kind):
    parts = 0
    try:
        for _ in stream():
            parts += 1
    except kind as error:
        return {"parts": parts, "text": str(error)}
    return {"parts": parts, "text": None}


def events():
    with claude.messages.stream(model=MODEL, max_tokens=200, messages=MESSAGES) as stream:
        yield from stream.text_stream


gate = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
claude = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
own = ollama.Client(host=URL, headers={"Authorization": f"Bearer {KEY}"})
prompt = MESSAGES[0]["content"]
tell(
    chat=taken(lambda: own.chat(model=MODEL, messages=MESSAGES, stream=True), ollama.ResponseError),
    generate=taken(lambda: own.generate(model=MODEL, prompt=prompt, stream=True), ollama.ResponseError),
    v1_chat=taken(lambda: gate.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True), openai.APIError),
    v1_completions=taken(lambda: gate.completions.create(model=MODEL, prompt=prompt, stream=True), openai.APIError),
    v1_responses=taken(lambda: gate.responses.create(model=MODEL, input=prompt, stream=True), openai.APIError),
    v1_messages=taken(events, anthropic.APIError),
)
