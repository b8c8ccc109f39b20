"""The demo model's byte-level BPE: GPT-2's alphabet, Qwen2's way of cutting a text into pieces.

llama.cpp reads it from the GGUF file as tokenizer model `gpt2` with `pre = qwen2`; `encode` here must cut exactly as it does.
"""

import collections
import json

import regex

# The pattern that llama.cpp uses for `pre = qwen2`.
PIECES = regex.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BEGIN, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SPECIAL = [PAD, BEGIN, END]


def byte_alphabet():
    """GPT-2's printable stand-in for each byte value."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, spare = {}, 256
    for byte in range(256):
        if byte in kept:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(spare)
            spare += 1
    return table


BYTES = byte_alphabet()
CHARS = {char: byte for byte, char in BYTES.items()}


class Tokenizer:
    """Tokens in id order (bytes, merges, then the special ones) and the merges in rank order."""

    def __init__(self, tokens, merges):
        self.tokens, self.merges = tokens, merges
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.rank = {tuple(merge): i for i, merge in enumerate(merges)}
        self.cache = {}

    def _piece(self, text):
        if text not in self.cache:
            parts = [BYTES[byte] for byte in text.encode()]
            while len(parts) > 1:
                best = min(zip(parts, parts[1:]), key=lambda pair: self.rank.get(pair, 1 << 30))
                if best not in self.rank:
                    break
                parts = join(parts, best)
            self.cache[text] = [self.ids[part] for part in parts]
        return self.cache[text]

    def encode(self, text):
        """Ids of a text in which no special token is recognised."""
        return [i for piece in PIECES.findall(text) for i in self._piece(piece)]

    def decode(self, ids):
        """The text of ordinary ids."""
        return bytes(CHARS[char] for i in ids for char in self.tokens[i]).decode(errors="replace")

    def save(self, path):
        with open(path, "w") as file:
            json.dump({"tokens": self.tokens, "merges": self.merges}, file)

    @classmethod
    def load(cls, path):
        with open(path) as file:
            return cls(**json.load(file))


def join(parts, pair):
    """`parts` with every neighbouring `pair` made one."""
    out, i = [], 0
    while i < len(parts):
        if i + 1 < len(parts) and (parts[i], parts[i + 1]) == pair:
            out.append(parts[i] + parts[i + 1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


def learn(texts, size):
    """A tokenizer of `size` tokens (special ones included) from the texts: the most frequent pair is merged first."""
    words = collections.Counter(piece for text in texts for piece in PIECES.findall(text))
    words = [([BYTES[byte] for byte in word.encode()], count) for word, count in sorted(words.items())]
    tokens, merges = [BYTES[byte] for byte in range(256)], []
    while len(tokens) < size - len(SPECIAL):
        pairs = collections.Counter()
        for parts, count in words:
            for pair in zip(parts, parts[1:]):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(list(best))
        tokens.append(best[0] + best[1])
        words = [(join(parts, best) if best[0] in parts else parts, count) for parts, count in words]
    return Tokenizer(tokens + SPECIAL, merges)
