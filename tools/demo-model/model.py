"""The demo model in JAX: a small llama (RMS norm, rotary positions in neighbouring pairs, grouped heads, SwiGLU).

It computes what llama.cpp computes for the same weights; the tests of the engine rely on that.
"""

import jax
import jax.numpy as jnp
import numpy as np

DIM, LAYERS, HEADS, KV_HEADS, HEAD, FF = 128, 5, 4, 2, 32, 352
VOCAB, CONTEXT, THETA, EPS = 1024, 1024, 10000.0, 1e-5


def start(seed):
    """Random weights. The names and the (out, in) shapes are those of the GGUF file."""
    rng = np.random.default_rng(seed)

    def matrix(out, into, scale=1.0):
        return jnp.asarray(rng.normal(0, scale / np.sqrt(into), (out, into)), jnp.float32)

    weights = {"token_embd": matrix(VOCAB, DIM, 0.5), "output_norm": jnp.ones(DIM)}
    for layer in range(LAYERS):
        weights |= {
            f"blk.{layer}.attn_norm": jnp.ones(DIM),
            f"blk.{layer}.attn_q": matrix(HEADS * HEAD, DIM),
            f"blk.{layer}.attn_k": matrix(KV_HEADS * HEAD, DIM),
            f"blk.{layer}.attn_v": matrix(KV_HEADS * HEAD, DIM),
            f"blk.{layer}.attn_output": matrix(DIM, HEADS * HEAD, 0.4),
            f"blk.{layer}.ffn_norm": jnp.ones(DIM),
            f"blk.{layer}.ffn_gate": matrix(FF, DIM),
            f"blk.{layer}.ffn_up": matrix(FF, DIM),
            f"blk.{layer}.ffn_down": matrix(DIM, FF, 0.4),
        }
    return weights


def norm(x, gain):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPS) * gain


def rotate(x, at):
    """Rotary positions over the pairs (2i, 2i + 1); `x` is (batch, time, head, HEAD), `at` (batch, time)."""
    angle = at[..., None] * THETA ** (-jnp.arange(0, HEAD, 2) / HEAD)
    sin, cos = jnp.sin(angle)[:, :, None], jnp.cos(angle)[:, :, None]
    even, odd = x[..., ::2], x[..., 1::2]
    return jnp.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)


def part(weights, layer):
    """The weights of one layer by their short names."""
    return {name.split(".")[2]: value for name, value in weights.items() if name.startswith(f"blk.{layer}.")}


def heads(w, y, at):
    """Queries, keys and values of a layer; queries and keys rotated to their places."""
    shape = y.shape[:2]
    q = rotate((y @ w["attn_q"].T).reshape(*shape, HEADS, HEAD), at)
    k = rotate((y @ w["attn_k"].T).reshape(*shape, KV_HEADS, HEAD), at)
    return q, k, (y @ w["attn_v"].T).reshape(*shape, KV_HEADS, HEAD)


def attend(q, k, v, mask):
    """What each query sees; `mask` (batch, time, places)."""
    batch, time = q.shape[:2]
    q = q.reshape(batch, time, KV_HEADS, HEADS // KV_HEADS, HEAD)
    score = jnp.einsum("btkgd,bskd->bkgts", q, k) / np.sqrt(HEAD)
    score = jax.nn.softmax(jnp.where(mask[:, None, None], score, -1e9), -1)
    return jnp.einsum("bkgts,bskd->btkgd", score, v).reshape(batch, time, HEADS * HEAD)


def rest(w, x, seen):
    """The layer after its attention."""
    x = x + seen @ w["attn_output"].T
    y = norm(x, w["ffn_norm"])
    return x + (jax.nn.silu(y @ w["ffn_gate"].T) * (y @ w["ffn_up"].T)) @ w["ffn_down"].T


def forward(weights, ids, at, mask, drop=None):
    """Hidden states (batch, time, DIM) of whole rows. `mask` (batch, time, time) says what may be looked at; `drop` is (key, share)."""
    x = weights["token_embd"][ids]
    if drop is not None:
        key, share = drop
        x = x * jax.random.bernoulli(key, 1 - share, (*ids.shape, 1)) / (1 - share)
    for layer in range(LAYERS):
        w = part(weights, layer)
        x = rest(w, x, attend(*heads(w, norm(x, w["attn_norm"]), at), mask))
    return norm(x, weights["output_norm"])


@jax.jit
def advance(weights, ids, begin, cache):
    """Reads `ids` (batch, time) from place `begin` (batch) on: hidden states, and the cache of keys and values."""
    batch, time = ids.shape
    at = begin[:, None] + jnp.arange(time)
    row = jnp.arange(batch)[:, None]
    mask = jnp.arange(cache.shape[3])[None, None] <= at[..., None]
    x, kept = weights["token_embd"][ids], []
    for layer in range(LAYERS):
        w = part(weights, layer)
        q, k, v = heads(w, norm(x, w["attn_norm"]), at)
        k, v = cache[layer, 0].at[row, at].set(k), cache[layer, 1].at[row, at].set(v)
        kept.append(jnp.stack([k, v]))
        x = rest(w, x, attend(q, k, v, mask))
    return norm(x, weights["output_norm"]), jnp.stack(kept)


def answers(weights, prompts, stop, most=48, batch=96, width=256):
    """Greedy continuations of lists of ids, each up to (without) `stop` or `most` tokens."""
    done = []
    for first in range(0, len(prompts), batch):
        rows = [list(prompt)[most - width:] for prompt in prompts[first:first + batch]]
        count = len(rows)
        rows += [[stop]] * (batch - count)
        ids, lengths = np.zeros((batch, width - most), np.int32), np.array([len(row) for row in rows])
        for i, row in enumerate(rows):
            ids[i, :len(row)] = row
        cache = jnp.zeros((LAYERS, 2, batch, width, KV_HEADS, HEAD))
        hidden, cache = advance(weights, ids, np.zeros(batch, np.int32), cache)
        hidden = hidden[np.arange(batch), lengths - 1]
        found = [[] for _ in rows]
        for step in range(most):
            best = np.asarray(jnp.argmax(hidden @ weights["token_embd"].T, -1))
            for i, answer in enumerate(found):
                answer.append(int(best[i]))
            if all(stop in answer for answer in found[:count]):
                break
            hidden, cache = advance(weights, best[:, None], lengths + step, cache)
            hidden = hidden[:, 0]
        done += [answer[:answer.index(stop)] if stop in answer else answer for answer in found[:count]]
    return done
