"""Finds the smallest Python expression that gives the wanted result for every example, by really evaluating.

Usage: synthesise.py {"parameters": [..], "examples": [{"args": [..], "result": ..}, ..], "seconds": S}

Expressions are put together from smaller ones, smallest first. Of all that give the same values on the examples
only the first is kept, so that what is tried grows with what is different, not with what can be written.
"""

import json
import sys
import time

# No expression has more parts, and no more different ones are kept.
SIZE_MAX = 9
KEPT_MAX = 60_000
# A value that is larger belongs to no example that a person writes down.
LARGEST = 10**12
LONGEST = 1_000

WORDS = (str, list)
NUMBERS = (int, float)


def number(value):
    return isinstance(value, NUMBERS) and not isinstance(value, bool)


def whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def ordered(a, b):
    return (number(a) and number(b)) or (type(a) is type(b) and isinstance(a, str))


# Text with the places of its parts, what the parts must be, and what it does.
UNARY = [
    ("len({})", lambda a: isinstance(a, WORDS), len),
    ("abs({})", number, abs),
    ("sum({})", lambda a: isinstance(a, list) and all(map(number, a)), sum),
    ("max({})", lambda a: isinstance(a, WORDS) and len(a) > 0, max),
    ("min({})", lambda a: isinstance(a, WORDS) and len(a) > 0, min),
    ("sorted({})", lambda a: isinstance(a, WORDS), sorted),
    ("{}[::-1]", lambda a: isinstance(a, WORDS), lambda a: a[::-1]),
    ("{}[0]", lambda a: isinstance(a, WORDS), lambda a: a[0]),
    ("{}[-1]", lambda a: isinstance(a, WORDS), lambda a: a[-1]),
    ("{}.lower()", lambda a: isinstance(a, str), str.lower),
    ("{}.upper()", lambda a: isinstance(a, str), str.upper),
    ("{}.title()", lambda a: isinstance(a, str), str.title),
    ("{}.strip()", lambda a: isinstance(a, str), str.strip),
    ("{}.split()", lambda a: isinstance(a, str), str.split),
    ("str({})", number, str),
    ("list(dict.fromkeys({}))", lambda a: isinstance(a, WORDS), lambda a: list(dict.fromkeys(a))),
    ("(not {})", lambda a: isinstance(a, bool), lambda a: not a),
]
BINARY = [
    ("({} + {})", lambda a, b: (number(a) and number(b)) or (type(a) is type(b) and isinstance(a, WORDS)),
     lambda a, b: a + b),
    ("({} - {})", lambda a, b: number(a) and number(b), lambda a, b: a - b),
    ("({} * {})", lambda a, b: number(a) and number(b), lambda a, b: a * b),
    ("({} // {})", lambda a, b: whole(a) and whole(b) and b != 0, lambda a, b: a // b),
    ("({} % {})", lambda a, b: whole(a) and whole(b) and b != 0, lambda a, b: a % b),
    ("max({}, {})", ordered, max),
    ("min({}, {})", ordered, min),
    ("({} < {})", ordered, lambda a, b: a < b),
    ("({} <= {})", ordered, lambda a, b: a <= b),
    ("({} == {})", lambda a, b: True, lambda a, b: a == b),
    ("({} in {})", lambda a, b: isinstance(b, list) or (isinstance(a, str) and isinstance(b, str)),
     lambda a, b: a in b),
    ("({} and {})", lambda a, b: isinstance(a, bool) and isinstance(b, bool), lambda a, b: a and b),
    ("({} or {})", lambda a, b: isinstance(a, bool) and isinstance(b, bool), lambda a, b: a or b),
    ("{}.join({})", lambda a, b: isinstance(a, str) and isinstance(b, list) and all(isinstance(i, str) for i in b),
     lambda a, b: a.join(b)),
    ("{}.split({})", lambda a, b: isinstance(a, str) and isinstance(b, str) and b, lambda a, b: a.split(b)),
    ("{}[:{}]", lambda a, b: isinstance(a, WORDS) and whole(b), lambda a, b: a[:b]),
    ("{}[{}:]", lambda a, b: isinstance(a, WORDS) and whole(b), lambda a, b: a[b:]),
]


class Found(Exception):
    pass


class Search:
    def __init__(self, wish):
        self.wanted = [example["result"] for example in wish["examples"]]
        self.until = time.monotonic() + wish["seconds"]
        self.tried = 0
        self.known = set()
        self.by_size = {0: []}
        rows = [example["args"] for example in wish["examples"]]
        leaves = [(name, [row[i] for row in rows]) for i, name in enumerate(wish["parameters"])]
        constants = [0, 1, 2, 10, 100, "", " ", "-", ", "]
        self.leaves = leaves + [(repr(value), [value] * len(rows)) for value in constants]

    def offer(self, size, text, values):
        """Keeps an expression unless one with the same values is known."""
        self.tried += 1
        if self.tried % 4096 == 0 and time.monotonic() > self.until:
            raise TimeoutError
        key = repr(values)
        if key in self.known:
            return
        for value in values:
            if number(value) and abs(value) > LARGEST or isinstance(value, WORDS) and len(value) > LONGEST:
                return
        self.known.add(key)
        self.by_size[size].append((text, values))
        if values == self.wanted and list(map(type, values)) == list(map(type, self.wanted)):
            raise Found(text)
        if len(self.known) > KEPT_MAX:
            raise TimeoutError

    def apply(self, size, form, fits, act, parts):
        values = []
        for row in zip(*(values for _, values in parts)):
            if not fits(*row):
                return
            try:
                values.append(act(*row))
            except (ArithmeticError, IndexError, TypeError, ValueError):
                return
        self.offer(size, form.format(*(text for text, _ in parts)), values)

    def run(self):
        for size in range(1, SIZE_MAX + 1):
            self.by_size[size] = []
            for text, values in self.leaves if size == 1 else []:
                self.offer(1, text, values)
            for part in self.by_size[size - 1]:
                for form, fits, act in UNARY:
                    self.apply(size, form, fits, act, [part])
            for left in range(1, size - 1):
                for a in self.by_size[left]:
                    for b in self.by_size[size - 1 - left]:
                        for form, fits, act in BINARY:
                            self.apply(size, form, fits, act, [a, b])


def bare(text):
    """Without the outermost parentheses, when they belong together."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0 and at < len(text) - 1:
            return text
    return text[1:-1]


if __name__ == "__main__":
    search = Search(json.loads(sys.argv[1]))
    expression = None
    try:
        search.run()
    except Found as found:
        expression = bare(str(found))
    except TimeoutError:
        pass
    print(json.dumps({"expression": expression, "tried": search.tried}))
