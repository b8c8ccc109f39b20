"""Writes tiny GGUF files with random weights: `python make_tiny.py --out DIR [--seed N]`.

One file for each of the architectures llama, qwen3 and gemma3, complete in metadata and tensors, so that llama.cpp
loads them as it loads real ones. What they generate means nothing; that they load, tokenize, fill their chat template
and generate is the point. Same seed, same files. Each has another tokenizer and another number format:

    tiny-llama.gguf    byte-level BPE cut as in Llama 3, F16, its own output matrix, adds a begin token
    tiny-qwen3.gguf    byte-level BPE cut as in Qwen 2, Q8_0, norms of queries and keys
    tiny-gemma3.gguf   SentencePiece with byte fallback, F32, sliding windows, four norms a layer
"""

import argparse
import pathlib

import gguf
import numpy as np

NORMAL, CONTROL, BYTE = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.BYTE
SYLLABLES = [a + b for a in "bdfgklmnprstvw" for b in "aeiou"] + ["th", "er", "in", "on", "an", "st", "en", "ou", "is"]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else 'user' %}"
    "{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def byte_alphabet():
    """GPT-2's printable stand-in for each byte value."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(byte) if byte in kept else chr(next(spare)) for byte in range(256)]


def byte_level(out, pre, special, begin, end):
    """A byte-level vocabulary: bytes, syllables, syllables after a space, special tokens."""
    words = SYLLABLES + ["\u0120" + s for s in SYLLABLES]
    merges = [f"{s[0]} {s[1]}" for s in SYLLABLES] + [f"\u0120 {s}" for s in SYLLABLES]
    tokens = byte_alphabet() + words + special
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(pre)
    out.add_token_list(tokens)
    out.add_token_types([CONTROL if token in special else NORMAL for token in tokens])
    out.add_token_merges(merges)
    if begin:
        out.add_bos_token_id(tokens.index(begin))
    out.add_add_bos_token(begin is not None)
    out.add_eos_token_id(tokens.index(end))
    return len(tokens)


def sentence_piece(out):
    """A SentencePiece vocabulary: specials, one token per byte, characters, pieces; better pieces score higher."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    characters = ["\u2581", *(chr(c) for c in range(33, 127)), "\n"]
    pieces = SYLLABLES + ["\u2581" + s for s in SYLLABLES]
    tokens = special + [f"<0x{byte:02X}>" for byte in range(256)] + pieces + characters
    kinds = [CONTROL] * len(special) + [BYTE] * 256 + [NORMAL] * (len(pieces) + len(characters))
    kinds[special.index("<unk>")] = gguf.TokenType.UNKNOWN
    scores = [0.0] * (len(special) + 256) + [-float(i) for i in range(len(pieces))] + [-1000.0 - i for i in range(len(characters))]
    out.add_tokenizer_model("llama")
    out.add_tokenizer_pre("default")
    out.add_token_list(tokens)
    out.add_token_scores(scores)
    out.add_token_types(kinds)
    out.add_bos_token_id(special.index("<bos>"))
    out.add_eos_token_id(special.index("<end_of_turn>"))
    out.add_unk_token_id(special.index("<unk>"))
    out.add_pad_token_id(special.index("<pad>"))
    out.add_add_bos_token(True)
    out.add_add_space_prefix(False)
    return len(tokens)


def sizes(out, arch, dim, layers, heads, kv_heads, head, ff, vocab):
    """The metadata that the three share."""
    out.add_name(f"tiny-{arch}")
    out.add_description("Random weights for tests. It says nothing sensible.")
    out.add_context_length(512)
    out.add_embedding_length(dim)
    out.add_block_count(layers)
    out.add_feed_forward_length(ff)
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_key_length(head)
    out.add_value_length(head)
    out.add_rope_dimension_count(head)
    out.add_rope_freq_base(10000.0)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_vocab_size(vocab)


def tensors(out, rng, kind, dim, layers, heads, kv_heads, head, ff, vocab, norms, own_output):
    """Random matrices in format `kind`, norms near one in F32."""

    def matrix(name, rows, columns):
        value = rng.normal(0, 1.5 / np.sqrt(columns), (rows, columns)).astype(np.float32)
        if kind == gguf.GGMLQuantizationType.F32:
            out.add_tensor(name, value)
        else:
            out.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)

    def gain(name, size):
        out.add_tensor(name, rng.uniform(0.8, 1.2, size).astype(np.float32))

    matrix("token_embd.weight", vocab, dim)
    gain("output_norm.weight", dim)
    if own_output:
        matrix("output.weight", vocab, dim)
    for layer in range(layers):
        at = f"blk.{layer}."
        matrix(at + "attn_q.weight", heads * head, dim)
        matrix(at + "attn_k.weight", kv_heads * head, dim)
        matrix(at + "attn_v.weight", kv_heads * head, dim)
        matrix(at + "attn_output.weight", dim, heads * head)
        matrix(at + "ffn_gate.weight", ff, dim)
        matrix(at + "ffn_up.weight", ff, dim)
        matrix(at + "ffn_down.weight", dim, ff)
        for name in norms:
            gain(at + name + ".weight", head if name in ("attn_q_norm", "attn_k_norm") else dim)


def finish(out, template):
    """Template, then everything to the file."""
    out.add_chat_template(template)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def llama(path, rng):
    """Llama 3's ways: its pre-tokenizer, header tokens, an output matrix of its own, F16."""
    out = gguf.GGUFWriter(path, "llama")
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    vocab = byte_level(out, "llama-bpe", special, "<|begin_of_text|>", "<|eot_id|>")
    shape = {"dim": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head": 16, "ff": 160, "vocab": vocab}
    sizes(out, "llama", **shape)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    tensors(out, rng, gguf.GGMLQuantizationType.F16, **shape, norms=["attn_norm", "ffn_norm"], own_output=True)
    finish(out, HEADERS)


def qwen3(path, rng):
    """Qwen 3's ways: norms of queries and keys, heads wider than the model, tied output, Q8_0."""
    out = gguf.GGUFWriter(path, "qwen3")
    vocab = byte_level(out, "qwen2", ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None, "<|im_end|>")
    shape = {"dim": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head": 32, "ff": 192, "vocab": vocab}
    sizes(out, "qwen3", **shape)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    norms = ["attn_norm", "attn_q_norm", "attn_k_norm", "ffn_norm"]
    tensors(out, rng, gguf.GGMLQuantizationType.Q8_0, **shape, norms=norms, own_output=False)
    finish(out, CHATML)


def gemma3(path, rng):
    """Gemma 3's ways: SentencePiece, five windowed layers to one that sees all, norms before and after, F32."""
    out = gguf.GGUFWriter(path, "gemma3")
    vocab = sentence_piece(out)
    shape = {"dim": 64, "layers": 6, "heads": 2, "kv_heads": 1, "head": 32, "ff": 128, "vocab": vocab}
    sizes(out, "gemma3", **shape)
    out.add_sliding_window(64)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    norms = ["attn_norm", "attn_q_norm", "attn_k_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"]
    tensors(out, rng, gguf.GGMLQuantizationType.F32, **shape, norms=norms, own_output=False)
    finish(out, TURNS)


def main():
    """Reads the arguments and writes the three files."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--out", required=True, type=pathlib.Path)
    ask.add_argument("--seed", type=int, default=1)
    given = ask.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for number, write in enumerate((llama, qwen3, gemma3)):
        path = given.out / f"tiny-{write.__name__}.gguf"
        write(path, np.random.default_rng([given.seed, number]))
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
