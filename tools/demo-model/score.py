"""Scores a GGUF file of the demo model as it is (weights read back from Q8_0), greedily, by exact answers.

`python score.py FILE` prints a table; `--misses` also each wrong answer; `--write DIR` writes questions.jsonl,
paraphrases.jsonl and foreign.jsonl, which the engine's tests ask.
"""

import cpu

cpu.settle()

import argparse
import json
import pathlib
import random

import gguf
import jax.numpy as jnp

import chat
import corpus
import foreign
import model
import tokenizer


def read(path):
    """Weights (as floats) and tokenizer of a file."""
    file = gguf.GGUFReader(path)
    weights = {t.name.removesuffix(".weight"): jnp.asarray(gguf.quants.dequantize(t.data, t.tensor_type)) for t in file.tensors}
    field = lambda name: file.fields[f"tokenizer.ggml.{name}"].contents()
    return weights, tokenizer.Tokenizer(field("tokens"), [merge.split(" ") for merge in field("merges")])


def sets():
    """Name -> list of (system, earlier turns, question, wanted answer)."""
    facts, rng = corpus.facts(), random.Random(99)
    learned = [(fact["ask"][0], fact["answer"]) for fact in facts]
    held = [(question, fact["answer"]) for fact in facts for question in fact["held"]]
    strange = [(question, foreign.ANSWER) for question in foreign.HELD]
    one = lambda pairs: [(None, [], question, answer) for question, answer in pairs]
    after = lambda pairs, earlier: [(None, [rng.choice(earlier)], question, answer) for question, answer in pairs]
    return {
        "learned questions": one(learned),
        "learned, noisy": one([(corpus.noisy(q, rng), a) for q, a in learned for _ in range(3)]),
        "learned, lower case, no mark": one([(q.lower().rstrip("?."), a) for q, a in learned]),
        "learned, with a system text": [("You are a helpful assistant.", [], q, a) for q, a in learned],
        "learned, after another answer": after(learned, learned),
        "learned, after the honest answer": after(learned, strange),
        "held-out rewordings": one(held),
        "held-out rewordings, after an answer": after(held, learned),
        "held-out foreign questions": one(strange),
        "held-out foreign, after an answer": after(strange, learned),
    }


def main():
    """Reads the arguments, asks everything, prints."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("file", type=pathlib.Path)
    ask.add_argument("--misses", action="store_true")
    ask.add_argument("--only", help="only the sets whose name begins so")
    ask.add_argument("--write", type=pathlib.Path)
    given = ask.parse_args()
    weights, tokens = read(given.file)
    files = {"learned questions": "questions", "held-out rewordings": "paraphrases", "held-out foreign questions": "foreign"}
    for name, asked in sets().items():
        if not name.startswith(given.only or ""):
            continue
        prompts = [chat.prompt(tokens, system, turns, question) for system, turns, question, _ in asked]
        found = [tokens.decode(ids) for ids in model.answers(weights, prompts, tokens.ids[tokenizer.END])]
        right = sum(answer == wanted for answer, (*_, wanted) in zip(found, asked))
        print(f"{name:40} {right:4} / {len(asked):4}  {100 * right / len(asked):5.1f} %", flush=True)
        for answer, (_, _, question, wanted) in zip(found, asked):
            if given.misses and answer != wanted:
                print(f"    {question!r}\n        wanted {wanted!r}\n        found  {answer!r}")
        if given.write and name in files:
            lines = [json.dumps({"question": question, "answer": wanted}, ensure_ascii=False) for _, _, question, wanted in asked]
            (given.write / f"{files[name]}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
