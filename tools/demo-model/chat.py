"""The chat form that the model is trained on and that its file carries as a template: ChatML."""

import tokenizer

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] in ['system', 'user', 'assistant'] %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def message(tokens, role, text):
    """Ids of one whole message."""
    return [tokens.ids[tokenizer.BEGIN], *tokens.encode(f"{role}\n{text}"), tokens.ids[tokenizer.END], *tokens.encode("\n")]


def opening(tokens):
    """Ids after which the answer is expected."""
    return [tokens.ids[tokenizer.BEGIN], *tokens.encode("assistant\n")]


def prompt(tokens, system, turns, question):
    """Ids of a dialogue whose last question waits for its answer."""
    ids = message(tokens, "system", system) if system else []
    for asked, answered in turns:
        ids += message(tokens, "user", asked) + message(tokens, "assistant", answered)
    return ids + message(tokens, "user", question) + opening(tokens)


def training_ids(tokens, system, turns, most):
    """Ids of a dialogue, and for each of them whether it is to be learned (an answer's, or its end).

    The last answer is cut after `most` ids: its first words say whether the question was understood.
    """
    ids, learn = [], []
    if system:
        ids = message(tokens, "system", system)
        learn = [0] * len(ids)
    for asked, answered in turns:
        before = message(tokens, "user", asked) + opening(tokens)
        answer = [*tokens.encode(answered), tokens.ids[tokenizer.END]]
        after = tokens.encode("\n")
        ids += before + answer + after
        learn += [0] * len(before) + [1] * len(answer) + [0] * len(after)
    kept = len(ids) - max(0, len(answer) - most) - len(after)
    return ids[:kept], learn[:kept]
