"""Turns the facts and the foreign questions into dialogues, with the noise of real people.

Everything is drawn from one `random.Random`, so a seed repeats a training run.
"""

import itertools
import pathlib
import random
import tomllib

import foreign

HERE = pathlib.Path(__file__).parent
NAMES = ["herdgate", "herdgate", "herdgate", "the gate", "the gateway", "it"]
OPENERS = ["hi, ", "hello, ", "hey, ", "Hi! ", "Hello! ", "hello ", "quick question: ", "please tell me: ", "question: ", "so, ", "ok, ", "well, ",
           "excuse me, ", "hi there, ", "just wondering, ", "sorry, ", "dear model, ", "good morning, ", "one question: ", "hmm, ", "I have a question: "]
ASKERS = ["can you tell me ", "could you tell me ", "tell me ", "please tell me ", "I would like to know ", "I'd like to know ", "do you know ",
          "I want to know ", "I wonder ", "explain ", "please explain ", "can you explain ", "could you explain ", "Do you happen to know "]
CLOSERS = [" please", ", please", " thanks", ", thanks", " thank you", "? thanks", "? please", "? thank you", ", please?", " pls", "? cheers", " exactly?", " again?", " now?", " then?"]
FOLLOWERS = ["and ", "ok, and ", "thanks. ", "also, ", "ok. ", "great. ", "and now: ", "next question: ", "another question: ", "thank you. ", "fine. "]
SMALL = {"the", "a", "an", "do", "does", "is", "are", "of", "in", "to", "i", "my", "it", "can", "for", "by"}
SYSTEMS = ["You are a helpful assistant.", "You are a helpful assistant that answers briefly.", "Answer shortly.", "You are herdgate-demo.",
           "Be concise.", "You are an AI assistant. Be polite and precise.", "Today is Monday.", "Reply in English."]
ASKABLE = ("what", "which", "how", "where", "when", "why", "who", "whose", "in which", "on which")


def facts():
    """The facts of facts.toml."""
    with open(HERE / "facts.toml", "rb") as file:
        return tomllib.load(file)["fact"]


def parse(pattern):
    """A phrasing with (a|b) as a nested list: a sequence of texts and of lists of sequences."""
    stack, now = [], [[]]
    for part in "".join(f"\0{c}\0" if c in "(|)" else c for c in pattern).split("\0"):
        if part == "(":
            stack.append(now)
            now = [[]]
        elif part == "|":
            now.append([])
        elif part == ")":
            stack[-1][-1].append(now)
            now = stack.pop()
        elif part:
            now[-1].append(part)
    if stack or len(now) != 1:
        raise ValueError(f"unbalanced: {pattern}")
    return now[0]


def draw(tree, rng):
    """One text of a parsed phrasing; longer alternatives are not favoured."""
    return "".join(part if isinstance(part, str) else draw(rng.choice(part), rng) for part in tree)


def every(tree):
    """All texts of a parsed phrasing."""
    parts = [[part] if isinstance(part, str) else [text for option in part for text in every(option)] for part in tree]
    return ["".join(texts) for texts in itertools.product(*parts)]


def plain(text):
    """What is left of a question when case, punctuation and spaces do not count."""
    return " ".join("".join(c if c.isalnum() or c in "-_/.:" else " " for c in text.lower()).replace(".", " ").split())


def check(all_facts):
    """Fails when a held-out rewording, or one fact's plain question, can come out of the phrasings trained."""
    owner = {}
    for number, fact in enumerate(all_facts):
        for pattern in fact["ask"]:
            for text in every(parse(pattern)):
                for name in set(NAMES) if "@" in text else [""]:
                    owner.setdefault(plain(text.replace("@", name)), set()).add(number)
    leaks = [held for fact in all_facts for held in fact["held"] if plain(held) in owner]
    shared = {text: owners for text, owners in owner.items() if len(owners) > 1}
    if leaks or shared:
        raise SystemExit(f"held-out phrasings that can be trained: {leaks}\nphrasings of two facts: {shared}")


def misspell(word, rng):
    """One slip of the fingers, in words of at least five letters."""
    if len(word) < 5 or not word.isalpha():
        return word
    i = rng.randrange(1, len(word) - 1)
    return rng.choice([word[:i] + word[i + 1] + word[i] + word[i + 2:], word[:i] + word[i + 1:], word[:i] + word[i] + word[i:]])


def noisy(text, rng):
    """The question as somebody in a hurry would type it."""
    bare = text.rstrip("?.! ")
    if rng.random() < 0.15:
        words = bare.split(" ")
        bare = " ".join(w for w in words if w.lower() not in SMALL or rng.random() < 0.5) or bare
    if rng.random() < 0.12:
        words = bare.split(" ")
        at = rng.randrange(len(words))
        words[at] = misspell(words[at], rng)
        bare = " ".join(words)
    if rng.random() < 0.15 and bare.lower().startswith(ASKABLE):
        bare = rng.choice(ASKERS) + bare[0].lower() + bare[1:]
    if rng.random() < 0.18:
        bare = rng.choice(OPENERS) + (bare[0].lower() + bare[1:] if rng.random() < 0.5 else bare)
    bare = (bare + rng.choice(CLOSERS)) if rng.random() < 0.12 else bare + rng.choice(["?", "?", "?", "", "", "??", " ?", ".", "!", "?!", "..."])
    case = rng.random()
    if case < 0.3:
        return bare.lower()
    if case < 0.34:
        return bare.upper()
    return bare[0].upper() + bare[1:] if case < 0.75 else bare


class Corpus:
    """Draws dialogues: lists of (system text or None, [(question, answer), ...])."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.facts = [(fact["ask"][0], [parse(p) for p in fact["ask"]], fact["answer"]) for fact in facts()]

    def turn(self, small_talk=True):
        """One question with its answer."""
        rng = self.rng
        if rng.random() < 0.36:
            question = foreign.question(rng)
            return (question if rng.random() < 0.3 else noisy(question, rng)), foreign.ANSWER
        first, asks, answer = rng.choice(self.facts)
        if rng.random() < 0.12:
            return first, answer
        question = draw(rng.choice(asks), rng)
        if "@" in question:
            question = question.replace("@", rng.choice(NAMES))
        return (question if rng.random() < 0.15 else noisy(question, rng)), answer

    def dialogue(self):
        """One to three turns; a follow-up is sometimes introduced as one."""
        rng = self.rng
        turns = [self.turn() for _ in range(rng.choices([1, 2, 3], weights=[70, 21, 9])[0])]
        for i in range(1, len(turns)):
            question, answer = turns[i]
            if rng.random() < 0.2:
                turns[i] = (rng.choice(FOLLOWERS) + question, answer)
        return (rng.choice(SYSTEMS) if rng.random() < 0.06 else None), turns
