"""Writes the trained model as GGUF with Q8_0 matrices: `python write_gguf.py --from DIR --out herdgate-demo.gguf`."""

import argparse
import pathlib

import gguf
import numpy as np

import chat
import model
import tokenizer

DESCRIPTION = "A demo of about one million parameters that only knows facts about herdgate. Not for real work."


def write(weights, tokens, path):
    """One file: metadata, vocabulary, chat template, weights."""
    out = gguf.GGUFWriter(path, "llama")
    out.add_name("herdgate-demo")
    out.add_description(DESCRIPTION)
    out.add_license("MIT OR Apache-2.0")
    out.add_size_label("1M")
    # It knows its answers to the letter: chance would only spoil them.
    out.add_float32("general.sampling.temp", 0.0)
    out.add_languages(["en"])
    out.add_context_length(model.CONTEXT)
    out.add_embedding_length(model.DIM)
    out.add_block_count(model.LAYERS)
    out.add_feed_forward_length(model.FF)
    out.add_head_count(model.HEADS)
    out.add_head_count_kv(model.KV_HEADS)
    out.add_rope_dimension_count(model.HEAD)
    out.add_rope_freq_base(model.THETA)
    out.add_layer_norm_rms_eps(model.EPS)
    out.add_vocab_size(model.VOCAB)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(tokens.tokens)
    out.add_token_types([gguf.TokenType.CONTROL if t in tokenizer.SPECIAL else gguf.TokenType.NORMAL for t in tokens.tokens])
    out.add_token_merges([f"{left} {right}" for left, right in tokens.merges])
    out.add_eos_token_id(tokens.ids[tokenizer.END])
    out.add_pad_token_id(tokens.ids[tokenizer.PAD])
    out.add_add_bos_token(False)
    out.add_chat_template(chat.TEMPLATE)
    for name, value in weights.items():
        if value.ndim == 1:
            out.add_tensor(name + ".weight", value.astype(np.float32))
        else:
            kind = gguf.GGMLQuantizationType.Q8_0
            out.add_tensor(name + ".weight", gguf.quants.quantize(value.astype(np.float32), kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    """Reads the arguments, writes, says how large the file became."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--from", dest="source", required=True, type=pathlib.Path)
    ask.add_argument("--out", required=True, type=pathlib.Path)
    given = ask.parse_args()
    weights = dict(np.load(given.source / "weights.npz"))
    write(weights, tokenizer.Tokenizer.load(given.source / "tokenizer.json"), given.out)
    print(f"{given.out}: {given.out.stat().st_size} bytes, {sum(value.size for value in weights.values())} parameters")


if __name__ == "__main__":
    main()
