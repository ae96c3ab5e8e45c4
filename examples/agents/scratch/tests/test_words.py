import unittest

from shop.words import frequencies, median, ngrams, similarity, slug, tokenize, top, wrap


class TokenizeTest(unittest.TestCase):
    def test_lower_case_without_punctuation(self):
        self.assertEqual(tokenize("Oak table, 4 legs."), ["oak", "table", "4", "legs"])

    def test_hyphen_and_apostrophe_inside(self):
        self.assertEqual(tokenize("a child's T-shirt"), ["a", "child's", "t-shirt"])

    def test_hyphen_and_apostrophe_outside(self):
        self.assertEqual(tokenize("'new' - and -light-"), ["new", "and", "light"])

    def test_nothing(self):
        self.assertEqual(tokenize(" ... "), [])


class CountTest(unittest.TestCase):
    def test_frequencies(self):
        words = ["red", "chair", "red", "red"]
        self.assertEqual(frequencies(words), {"red": 3, "chair": 1})

    def test_stop_words_and_short_ones(self):
        words = ["the", "x", "tv", "of", "oak"]
        self.assertEqual(frequencies(words), {"tv": 1, "oak": 1})

    def test_shortest(self):
        self.assertEqual(frequencies(["tv", "oak"], shortest=3), {"oak": 1})

    def test_top(self):
        words = ["oak", "ash", "elm", "oak", "fir", "elm", "oak"]
        self.assertEqual(top(words), ["oak", "elm", "ash"])
        self.assertEqual(top(words, 1), ["oak"])


class NgramTest(unittest.TestCase):
    def test_pairs(self):
        pairs = [("a", "b"), ("b", "c"), ("c", "d")]
        self.assertEqual(ngrams(["a", "b", "c", "d"]), pairs)

    def test_triples(self):
        self.assertEqual(ngrams(["a", "b", "c"], 3), [("a", "b", "c")])

    def test_too_few(self):
        self.assertEqual(ngrams(["a"]), [])


class StatisticsTest(unittest.TestCase):
    def test_median_of_odd(self):
        self.assertEqual(median([9, 1, 5]), 5)

    def test_median_of_even(self):
        self.assertEqual(median([10, 3, 1, 5]), 4)

    def test_similarity(self):
        self.assertEqual(similarity(["oak", "table"], ["oak", "chair", "legs"]), 0.25)
        self.assertEqual(similarity(["oak"], ["oak"]), 1.0)

    def test_similarity_with_an_empty_text(self):
        self.assertEqual(similarity(["oak"], []), 0.0)
        self.assertEqual(similarity([], ["oak"]), 0.0)
        self.assertEqual(similarity([], []), 1.0)


class LayoutTest(unittest.TestCase):
    def test_wrap(self):
        words = ["solid", "oak", "table", "for", "six"]
        self.assertEqual(wrap(words, 11), ["solid oak", "table for", "six"])

    def test_wrap_exactly_full(self):
        self.assertEqual(wrap(["solid", "oak", "leg"], 9), ["solid oak", "leg"])
        self.assertEqual(wrap(["solid", "oak", "leg"], 8), ["solid", "oak leg"])

    def test_wrap_long_word_and_nothing(self):
        self.assertEqual(wrap(["extraordinary"], 5), ["extraordinary"])
        self.assertEqual(wrap([], 5), [])

    def test_slug(self):
        self.assertEqual(slug("Oak & ash (large)"), "oak-and-ash-large")
        self.assertEqual(slug("Oak table", "+"), "oak+table")
