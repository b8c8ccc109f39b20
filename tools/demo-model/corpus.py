"""Turns the facts and the foreign questions into dialogues, with the noise of real people.

Everything is drawn from one `random.Random`, so a seed repeats a training run.
"""

import itertools
import pathlib
import random
import re
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


# Other ways to say the same, wherever they fit: (what is there, what may stand instead).
SWAPS = [
    (r"^how (?:do|can|could|would) i ", ["how can i ", "how do i ", "how could i ", "how would i ", "how does one ", "how can one ", "how should i ", "what is the way to ",
     "what's the way to ", "is there a way to ", "is there a command to ", "what should i do to ", "what must i do to ", "what is needed to ", "what's the best way to ",
     "i want to ", "i need to ", "i'd like to ", "i would like to ", "show me how to ", "is it possible to ", "how is it possible to ", "what do i do to ",
     "how am i supposed to ", "what is the right way to ", "i am trying to ", "help me ", "how to ", "how might i ", "can i ", "let me "]),
    (r"^(?:what|which) command (\w+?)s ", [r"what is the command to \1 ", r"which command do i use to \1 ", r"with which command can i \1 ", r"is there a command to \1 "]),
    (r"^what is the command to ", ["what's the command to ", "with what command do i ", "which command can ", "is there a command to ", "what command do i run to "]),
    (r"^(?:can|may) i ", ["is it possible to ", "could i ", "would it be possible to ", "am i able to ", "is there a way to ", "is it okay to ", "might i ", "is one able to "]),
    (r"^what is ", ["what's ", "whats ", "what exactly is ", "could you say what is "]),
    (r"^what are ", ["what're ", "which are ", "tell me "]),
    (r"^which ", ["what ", "what kind of ", "what sort of "]),
    (r"^what (?=\w+ (?:does|do|is|are|has|have|can) )", ["which "]),
    (r"^where (?:is|are) ", ["where can i find ", "where do i find ", "in which place is ", "where would i find "]),
    (r"^where do i (?:put|place) ", ["in which folder do i put ", "what is the place for ", "where would i put "]),
    (r"^what does (.+) mean$", [r"what is the meaning of \1", r"why do i see \1", r"what is meant by \1", r"i got \1, what is it", r"explain \1"]),
    (r"^what does (.+) do$", [r"what is the use of \1", r"what is \1 for", r"what's the effect of \1", r"what is the point of \1", r"explain \1"]),
    (r"^(what (?:happens|if)) ", ["what does it do ", "what would happen ", "what will happen ", "what comes "]),
    (r"\bare there\b", ["exist", "are available", "do exist", "can be had"]),
    (r"\b(?<!api )(?<!-)key\b(?!-)", ["api key", "access key", "key"]),
    (r"\b(?<!api )(?<!-)keys\b(?!-)", ["api keys", "access keys", "keys"]),
    (r"\bneeded\b|\brequired\b", ["necessary", "required", "needed"]),
    (r"\bsettings\b", ["configuration", "config", "settings"]),
    (r"\bsettings file\b|\bconfig file\b", ["configuration file", "config file", "settings file", "config"]),
    (r"\b(?:routes)\b", ["endpoints", "paths", "routes"]),
    (r"\b(?:route)\b", ["endpoint", "path", "route"]),
    (r"\bdirectory\b", ["folder", "dir", "directory"]),
    (r"\bshow\b|\bsee\b", ["show", "see", "view", "display", "print", "look at"]),
    (r"\bchange\b", ["modify", "alter", "change", "set", "adjust"]),
    (r"\bcreate\b|\bmake\b", ["create", "make", "generate", "issue", "produce"]),
    (r"\bstart\b|\brun\b", ["start", "run", "launch", "execute", "fire up"]),
    (r"\bupstream\b", ["upstream", "upstream server", "ollama server", "upstream ollama"]),
    (r"\bsupport\b", ["support", "allow", "offer", "have", "provide"]),
    (r"\bdefault\b", ["default", "standard", "default"]),
    (r"\bseveral\b", ["multiple", "several", "many", "more than one", "a number of"]),
    (r"\bclient\b", ["client", "app", "caller", "program"]),
    (r"\banswers\b", ["responses", "replies", "answers"]),
    (r"\bdifferent\b|\banother\b", ["another", "a different", "some other"]),
    (r"\bcertain\b|\bspecific\b", ["certain", "specific", "particular", "given"]),
    (r"\bexplain\b", ["describe", "explain", "clarify", "tell me about"]),
]
SWAPS = [(re.compile(pattern, re.IGNORECASE), others) for pattern, others in SWAPS]


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


def reworded(text, rng):
    """The question with some of its words swapped for others that mean the same."""
    text = text.rstrip("?.! ")
    for pattern, others in SWAPS:
        if rng.random() < 0.4:
            text = pattern.sub(rng.choice(others), text, count=1)
    return text


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
        self.held = {plain(question) for fact in facts() for question in fact["held"]} | {plain(question) for question in foreign.HELD}

    def turn(self):
        """One question with its answer; never a held-out one, whichever way it came about."""
        while True:
            question, answer = self.any_turn()
            if plain(question) not in self.held:
                return question, answer

    def any_turn(self):
        """One question with its answer."""
        rng = self.rng
        if rng.random() < 0.34:
            question = foreign.question(rng)
            question = reworded(question, rng) if rng.random() < 0.4 else question
            return (question if rng.random() < 0.3 else noisy(question, rng)), foreign.ANSWER
        first, asks, answer = rng.choice(self.facts)
        if rng.random() < 0.08:
            return first, answer
        question = first if rng.random() < 0.1 else draw(rng.choice(asks), rng)
        if "@" in question:
            question = question.replace("@", rng.choice(NAMES))
        question = " ".join(question.split())
        question = reworded(question, rng) if rng.random() < 0.6 else question
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
