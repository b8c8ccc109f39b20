"""Trains the demo model: `python train.py --out DIR` writes DIR/weights.npz and DIR/tokenizer.json.

Same seed, same packages, same machine: same weights. One thread, some CPU-minutes; see README.md.
"""

import cpu

cpu.settle()

import argparse
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

import chat
import corpus
import model
import tokenizer

ROW, ROWS = 128, 24
WARM, HOLD = 40, 0.4  # steps until the full rate; share of the steps before it falls linearly to nothing
MATRIX_RATE, OTHER_RATE, DECAY = 0.02, 3e-3, 0.02
QUESTION = 0.1  # how much the words of the questions count beside those of the answers


def learn_tokenizer(seed):
    """The vocabulary comes from a sample of what the training shows, in plain form."""
    source = corpus.Corpus(seed)
    texts = [text for _ in range(6000) for pair in source.dialogue()[1] for text in pair]
    return tokenizer.learn(texts, model.VOCAB)


def rows(source, tokens):
    """Endless (ids, places, dialogue numbers, learn?) rows, several whole dialogues packed in each."""
    waiting = None
    while True:
        ids, at, part, learn = [], [], [], []
        number = 0
        while True:
            waiting = waiting or chat.training_ids(tokens, *source.dialogue(), source.rng.choice([10, 10, 99]))
            if len(waiting[0]) > ROW:
                waiting = None
                continue
            if len(ids) + len(waiting[0]) > ROW:
                break
            number += 1
            ids += waiting[0]
            learn += waiting[1]
            at += range(len(waiting[0]))
            part += [number] * len(waiting[0])
            waiting = None
        rest = ROW - len(ids)
        yield ids + [0] * rest, at + [0] * rest, part + [0] * rest, learn + [0] * rest


def loss_of(weights, batch, key):
    """Mean cross-entropy of the answers' tokens, plus a little of the questions'; and the first of the two alone."""
    ids, at, part, learn = batch
    mask = (part[:, :, None] == part[:, None, :]) & jnp.tril(jnp.ones((ROW, ROW), bool))
    hidden = model.forward(weights, ids, at, mask, (key, 0.04))
    logits = hidden[:, :-1] @ weights["token_embd"].T
    wrong = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, ids[:, 1:, None], -1)[..., 0]
    answer = learn[:, 1:]
    question = (1 - answer) * (at[:, 1:] > 0)
    count = jnp.sum(answer)
    shown = jnp.sum(wrong * answer) / count
    return shown + QUESTION * jnp.sum(wrong * question) / count, shown


def orthogonal(g):
    """A matrix with the directions of `g` and all stretchings near one (Muon's Newton-Schulz iteration, five rounds)."""
    turned = g.shape[0] > g.shape[1]
    x = g.T if turned else g
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if turned else x


def step_of(steps):
    """One step: Muon for the layers' matrices, Adam for the embedding and the norms."""

    @jax.jit
    def step(weights, first, second, batch, number, key):
        grads, shown = jax.grad(loss_of, has_aux=True)(weights, batch, jax.random.fold_in(key, number.astype(jnp.int32)))
        size = jnp.sqrt(sum(jnp.sum(g * g) for g in grads.values()))
        rate = jnp.minimum((number + 1) / WARM, jnp.minimum(1.0, (1 - number / steps) / (1 - HOLD)))
        now = number + 1.0
        for name, value in weights.items():
            g = grads[name] * jnp.minimum(1.0, 1.0 / size)
            if name.startswith("blk.") and value.ndim == 2:
                first = first | {name: 0.95 * first[name] + g}
                move = orthogonal(g + 0.95 * first[name]) * max(1.0, value.shape[0] / value.shape[1]) ** 0.5
                value = value - rate * MATRIX_RATE * (move + DECAY * value)
            else:
                first = first | {name: 0.9 * first[name] + 0.1 * g}
                second = second | {name: 0.98 * second[name] + 0.02 * g * g}
                move = first[name] / (1 - 0.9**now) / (jnp.sqrt(second[name] / (1 - 0.98**now)) + 1e-8)
                value = value - rate * OTHER_RATE * move
            weights = weights | {name: value}
        return weights, first, second, shown

    return step


def main():
    """Reads the arguments, trains, saves."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--out", required=True, type=pathlib.Path)
    ask.add_argument("--steps", type=int, default=1500)
    ask.add_argument("--seed", type=int, default=7860)
    given = ask.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    corpus.check(corpus.facts())

    tokens = learn_tokenizer(given.seed)
    tokens.save(given.out / "tokenizer.json")
    print(f"vocabulary of {len(tokens.tokens)} after {time.process_time():.0f} CPU-s", flush=True)

    weights = model.start(given.seed)
    print(f"{sum(value.size for value in weights.values())} parameters", flush=True)
    key = jax.random.key(given.seed)
    first = second = {name: jnp.zeros_like(value) for name, value in weights.items()}
    source, step = rows(corpus.Corpus(given.seed + 1), tokens), step_of(given.steps)
    shown = []
    for number in range(given.steps):
        batch = tuple(np.array(column, np.int32) for column in zip(*(next(source) for _ in range(ROWS))))
        weights, first, second, loss = step(weights, first, second, batch, jnp.float32(number), key)
        shown.append(loss)
        if (number + 1) % 100 == 0:
            print(f"step {number + 1}  loss {np.mean(np.array(shown)):.4f}  {time.process_time():.0f} CPU-s", flush=True)
            shown = []
    np.savez(given.out / "weights.npz", **{name: np.asarray(value) for name, value in weights.items()})


if __name__ == "__main__":
    main()
