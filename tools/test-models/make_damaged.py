"""Writes damaged variants of a sound GGUF file: `python make_damaged.py --from herdgate-demo.gguf --out DIR [--seed N]`.

No engine may crash on any of them, neither when it loads one nor when it is asked something afterwards. DIR/list.json
says of each file what was done to it and what is expected: `refuse` (it cannot be loaded: an error that names the
reason) or `any` (an error or an answer, whatever it says). Same seed, same files. Needs nothing but Python.
"""

import argparse
import copy
import json
import pathlib
import random
import struct

# Sizes of GGUF's scalar value types by number; 8 is a string, 9 an array.
SCALAR = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
U32, STRING, ARRAY = 4, 8, 9


class Gguf:
    """A GGUF file taken apart as far as damaging it needs; `write` puts it together again, sound or not."""

    def __init__(self, raw):
        self.raw, self.at = raw, 0
        self.magic, self.version, tensor_count, value_count = struct.unpack("<4sIQQ", self._take(24))
        self.values = [[self._string(), *self._value()] for _ in range(value_count)]
        self.values_end = self.at
        self.tensors = [self._tensor() for _ in range(tensor_count)]
        self.infos_end = self.at
        self.body_at = -(-self.at // 32) * 32
        self.body = bytearray(raw[self.body_at:])
        self.tensor_count, self.value_count = tensor_count, value_count

    def _take(self, size):
        self.at += size
        return self.raw[self.at - size:self.at]

    def _string(self):
        return self._take(struct.unpack("<Q", self._take(8))[0])

    def _value(self):
        """(type number, its bytes as they are)."""
        kind = struct.unpack("<I", self._take(4))[0]
        begin = self.at
        if kind == STRING:
            self._string()
        elif kind == ARRAY:
            inner, count = struct.unpack("<IQ", self._take(12))
            for _ in range(count):
                self._string() if inner == STRING else self._take(SCALAR[inner])
        else:
            self._take(SCALAR[kind])
        return kind, self.raw[begin:self.at]

    def _tensor(self):
        """[name, dimensions, type number, offset]."""
        name = self._string()
        dims = [struct.unpack("<Q", self._take(8))[0] for _ in range(struct.unpack("<I", self._take(4))[0])]
        return [name, dims, *struct.unpack("<IQ", self._take(12))]

    def write(self):
        """The bytes of the file."""
        out = bytearray(struct.pack("<4sIQQ", self.magic, self.version, self.tensor_count, self.value_count))
        for name, kind, value in self.values:
            out += text(name) + struct.pack("<I", kind) + value
        for name, dims, kind, offset in self.tensors:
            out += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
            out += struct.pack("<IQ", kind, offset)
        out += bytes(-len(out) % 32)
        return bytes(out + self.body)

    def find(self, name):
        """The value named so; the architecture's prefix may be left out."""
        name = name.encode()
        return next(v for v in self.values if v[0] == name or v[0].split(b".", 1)[-1] == name)

    def tensor(self, name):
        """The tensor named so."""
        return next(t for t in self.tensors if t[0] == name.encode())

    def number(self, name, value):
        """Sets a value to an unsigned 32-bit number."""
        self.find(name)[1:] = [U32, struct.pack("<I", value)]

    def word(self, name, value):
        """Sets a value to a string."""
        self.find(name)[1:] = [STRING, text(value.encode())]

    def drop(self, name):
        """Takes a value out."""
        self.values.remove(self.find(name))
        self.value_count -= 1


def text(raw):
    """A GGUF string."""
    return struct.pack("<Q", len(raw)) + raw


def cuts(sound):
    """Files that end too early."""
    raw, n = sound.raw, len(sound.raw)
    yield "empty", "no byte at all", b""
    yield "cut-magic", "ends within the magic", raw[:3]
    yield "cut-header", "ends within the header", raw[:20]
    yield "cut-values", "ends within the metadata", raw[:sound.values_end // 2]
    yield "cut-infos", "ends within the list of tensors", raw[:(sound.values_end + sound.infos_end) // 2]
    yield "cut-before-weights", "ends before the first weight", raw[:sound.body_at]
    yield "cut-half", "ends within the weights", raw[:n // 2]
    yield "cut-last", "the last byte is missing", raw[:-1]


def headers(sound):
    """Files whose first bytes lie."""
    raw = sound.raw
    yield "magic-wrong", "another magic", b"GGML" + raw[4:]
    yield "magic-page", "a web page that was saved as a model", b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n"
    yield "magic-pointer", "the pointer that a clone without large files leaves", b"version https://git-lfs.github.com/spec/v1\nsize 968192\n"
    yield "version-0", "version 0", raw[:4] + struct.pack("<I", 0) + raw[8:]
    yield "version-99", "version 99", raw[:4] + struct.pack("<I", 99) + raw[8:]
    yield "version-swapped", "version in the other byte order", raw[:4] + raw[4:8][::-1] + raw[8:]
    yield "tensors-huge", "2^63 tensors", raw[:8] + struct.pack("<Q", 1 << 63) + raw[16:]
    yield "values-huge", "2^63 values", raw[:16] + struct.pack("<Q", 1 << 63) + raw[24:]
    yield "values-none", "no value announced", raw[:16] + struct.pack("<Q", 0) + raw[24:]
    yield "string-huge", "a name of 2^62 bytes", raw[:24] + struct.pack("<Q", 1 << 62) + raw[32:]


def altered(sound, change):
    """The bytes of a copy after `change(copy)`."""
    copied = copy.deepcopy(sound)
    change(copied)
    return copied.write()


def huge_array(file):
    """The list of tokens claims 2^60 entries."""
    value = file.find("tokenizer.ggml.tokens")
    value[2] = value[2][:4] + struct.pack("<Q", 1 << 60) + value[2][12:]


def short_vocabulary(file):
    """Half of the tokens are gone, the embedding is as large as before."""
    value, out = file.find("tokenizer.ggml.tokens"), b""
    inner, count = struct.unpack("<IQ", value[2][:12])
    at = 12
    for _ in range(count // 2):
        size = 8 + struct.unpack("<Q", value[2][at:at + 8])[0]
        out += value[2][at:at + size]
        at += size
    value[2] = struct.pack("<IQ", inner, count // 2) + out


def same_tokens(file):
    """The second token is spelled like the first."""
    value = file.find("tokenizer.ggml.tokens")
    first = value[2][12:12 + 8 + struct.unpack("<Q", value[2][12:20])[0]]
    value[2] = value[2][:12] + first + first + value[2][12 + 2 * len(first):]


def not_numbers(file):
    """Every scale of the embedding becomes NaN (Q8_0: two bytes of scale, 32 of weights)."""
    _, dims, _, offset = file.tensor("token_embd.weight")
    for block in range(dims[0] * dims[1] // 32):
        file.body[offset + block * 34:offset + block * 34 + 2] = b"\xff\x7f"


def without_tensor(file):
    """One of the tensors is not listed."""
    file.tensors.remove(file.tensor("blk.1.ffn_up.weight"))
    file.tensor_count -= 1


def twice(file):
    """One tensor is listed under the name of another."""
    file.tensor("blk.1.ffn_up.weight")[0] = b"blk.0.ffn_up.weight"


CHANGES = [
    ("heads-0", "refuse", "no attention head", lambda f: f.number("attention.head_count", 0)),
    ("heads-3", "refuse", "three heads, which do not divide the width", lambda f: f.number("attention.head_count", 3)),
    ("heads-kv-0", "refuse", "no key head", lambda f: f.number("attention.head_count_kv", 0)),
    ("layers-100", "refuse", "more layers than tensors", lambda f: f.number("block_count", 100)),
    ("layers-huge", "refuse", "2^32 - 1 layers", lambda f: f.number("block_count", 0xFFFFFFFF)),
    ("width-96", "refuse", "another width than the tensors have", lambda f: f.number("embedding_length", 96)),
    ("rope-7", "refuse", "an odd number of rotated dimensions", lambda f: f.number("rope.dimension_count", 7)),
    ("eps-missing", "refuse", "a needed value is missing", lambda f: f.drop("attention.layer_norm_rms_epsilon")),
    ("arch-unknown", "refuse", "an architecture that does not exist", lambda f: f.word("general.architecture", "lhama")),
    ("arch-number", "refuse", "the architecture is a number", lambda f: f.number("general.architecture", 7)),
    ("array-huge", "refuse", "a list of 2^60 tokens", huge_array),
    ("tokens-missing", "refuse", "no vocabulary", lambda f: f.drop("tokenizer.ggml.tokens")),
    ("tokens-half", "refuse", "half a vocabulary", short_vocabulary),
    ("tokens-twice", "refuse", "two tokens with one spelling", same_tokens),
    ("tokens-as-spm", "any", "a byte-level vocabulary labelled SentencePiece", lambda f: f.word("tokenizer.ggml.model", "llama")),
    ("tokenizer-unknown", "refuse", "a tokenizer that does not exist", lambda f: f.word("tokenizer.ggml.model", "abacus")),
    ("eos-out-of-range", "any", "the end token is not in the vocabulary", lambda f: f.number("tokenizer.ggml.eos_token_id", 999999)),
    ("context-0", "any", "a context of no token", lambda f: f.number("context_length", 0)),
    ("template-broken", "any", "a chat template that does not parse", lambda f: f.word("tokenizer.chat_template", "{% for m in %}{{ m")),
    ("template-endless", "any", "a chat template that would run for years",
     lambda f: f.word("tokenizer.chat_template", "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x{% endfor %}{% endfor %}{% endfor %}")),
    ("tensor-missing", "refuse", "a tensor is not there", without_tensor),
    ("tensor-twice", "refuse", "a tensor is there twice", twice),
    ("tensor-shape", "refuse", "a tensor of another shape", lambda f: f.tensor("blk.0.ffn_up.weight").__setitem__(1, [128, 320])),
    ("tensor-type", "refuse", "a tensor of a number format that does not exist", lambda f: f.tensor("blk.0.attn_q.weight").__setitem__(2, 777)),
    ("tensor-far", "refuse", "a tensor that lies behind the end of the file", lambda f: f.tensor("blk.0.attn_q.weight").__setitem__(3, (1 << 40))),
    ("weights-nan", "any", "weights that are not numbers", not_numbers),
]


def flips(sound, rng):
    """Three random bytes of the header changed, each time other ones."""
    for number in range(1, 7):
        raw = bytearray(sound.raw)
        for at in rng.sample(range(4, sound.infos_end), 3):
            raw[at] ^= rng.randrange(1, 256)
        yield f"flip-{number}", "three random bytes of the header changed", bytes(raw)


def main():
    """Reads the arguments, writes the files and their list."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--from", dest="source", required=True, type=pathlib.Path)
    ask.add_argument("--out", required=True, type=pathlib.Path)
    ask.add_argument("--seed", type=int, default=1)
    given = ask.parse_args()
    sound = Gguf(given.source.read_bytes())
    if sound.write() != sound.raw:
        raise SystemExit(f"{given.source}: this script does not understand it well enough to damage it on purpose")
    made = [(name, "refuse", what, raw) for name, what, raw in [*cuts(sound), *headers(sound)]]
    made += [(name, expect, what, altered(sound, change)) for name, expect, what, change in CHANGES]
    made += [(name, "any", what, raw) for name, what, raw in flips(sound, random.Random(given.seed))]
    given.out.mkdir(parents=True, exist_ok=True)
    for name, _, _, raw in made:
        (given.out / f"{name}.gguf").write_bytes(raw)
    listed = [{"file": f"{name}.gguf", "expect": expect, "damage": what} for name, expect, what, _ in made]
    (given.out / "list.json").write_text(json.dumps(listed, indent=1) + "\n")
    print(f"{given.out}: {len(made)} files")


if __name__ == "__main__":
    main()
