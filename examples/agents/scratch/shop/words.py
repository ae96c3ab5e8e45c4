"""The words of a product text, and what can be counted about them."""

STOP_WORDS = frozenset({"a", "an", "and", "for", "of", "the", "to", "with"})


def tokenize(text):
    """The words in lower case; a hyphen or an apostrophe counts inside a word."""
    words = []
    word = ""
    for char in text + " ":
        if char.isalnum() or (word and char in "'-"):
            word += char.lower()
        elif word:
            words.append(word.rstrip("'-"))
            word = ""
    return words


def frequencies(words, shortest=2):
    """How often each word occurs, without stop words and very short ones."""
    counts = {}
    for word in words:
        if len(word) >= shortest and word not in STOP_WORDS:
            counts[word] = counts.get(word, 0) + 1
    return counts


def top(words, limit=3):
    """The most frequent words; the alphabet decides between equals."""
    counts = frequencies(words)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return ranked[:limit]


def ngrams(words, size=2):
    """Every run of `size` neighbouring words."""
    return [tuple(words[i:i + size]) for i in range(len(words) - size + 1)]


def median(values):
    """The middle value, or half-way between the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def similarity(first, second):
    """Shared words as a fraction of all words; two empty texts are alike."""
    left, right = set(first), set(second)
    if not left and not right:
        return 1.0
    return len(left & right) / len(left | right)


def wrap(words, width):
    """Lines of at most `width` characters, broken between words."""
    lines = []
    line = ""
    for word in words:
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    if line:
        lines.append(line)
    return lines


def slug(text, separator="-"):
    """The text as the last part of a web address."""
    return separator.join(tokenize(text.replace("&", "and")))
