//! The bugs that can be planted in the scratch package, and the draw of one by a seed.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// What kind of mistake a planted bug is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A range, slice or index is one too long or too short.
    OffByOne,
    /// `<` where `<=` belongs, and the like.
    Comparison,
    /// Two arguments of a call changed places.
    SwappedArguments,
    /// `+` where `-` belongs, and the like.
    Arithmetic,
    /// A condition that says the opposite.
    InvertedCondition,
    /// A wrong constant or default.
    Constant,
    /// `and` where `or` belongs, or the other way round.
    Boolean,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 7] = [
        Self::OffByOne,
        Self::Comparison,
        Self::SwappedArguments,
        Self::Arithmetic,
        Self::InvertedCondition,
        Self::Constant,
        Self::Boolean,
    ];
}

/// One bug that can be planted: in `file`, the only occurrence of `before` becomes `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plant {
    /// What kind of mistake it is.
    pub kind: Kind,
    /// The file, relative to the repository.
    pub file: &'static str,
    /// What the correct source says.
    pub before: &'static str,
    /// What it says once the bug is planted.
    pub after: &'static str,
}

const BOOKINGS: &str = "shop/bookings.py";
const WORDS: &str = "shop/words.py";
const STOCK: &str = "shop/stock.py";

/// Every bug that can be planted: each kind in each of the three modules.
#[rustfmt::skip]
pub const CATALOGUE: &[Plant] = &[
    plant(Kind::OffByOne, BOOKINGS, "range(i + 1, len(bookings))", "range(i, len(bookings))"),
    plant(Kind::OffByOne, BOOKINGS, "in range(len(bookings)):", "in range(1, len(bookings)):"),
    plant(Kind::OffByOne, WORDS, "range(len(words) - size + 1)", "range(len(words) - size)"),
    plant(Kind::OffByOne, WORDS, "ordered[middle - 1]", "ordered[middle - 2]"),
    plant(Kind::OffByOne, WORDS, "ranked[:limit]", "ranked[:limit + 1]"),
    plant(Kind::OffByOne, STOCK, "names[i:i + size]", "names[i:i + size - 1]"),
    plant(Kind::OffByOne, STOCK, "(missing + size - 1)", "(missing + size)"),
    plant(Kind::Comparison, BOOKINGS, "first.start < second.end", "first.start <= second.end"),
    plant(Kind::Comparison, BOOKINGS, "booking.start > merged", "booking.start >= merged"),
    plant(Kind::Comparison, BOOKINGS, "closing - cursor >= shortest", "closing - cursor > shortest"),
    plant(Kind::Comparison, WORDS, "len(word) >= shortest", "len(word) > shortest"),
    plant(Kind::Comparison, WORDS, "len(word) > width", "len(word) >= width"),
    plant(Kind::Comparison, STOCK, "quantity >= 10:", "quantity > 10:"),
    plant(Kind::Comparison, STOCK, "subtotal >= FREE", "subtotal > FREE"),
    plant(Kind::Comparison, STOCK, "i.quantity <= i.reorder_at", "i.quantity < i.reorder_at"),
    plant(Kind::Comparison, STOCK, "given > 0", "given >= 0"),
    plant(Kind::SwappedArguments, BOOKINGS, "(cursor, booking.start)", "(booking.start, cursor)"),
    plant(Kind::SwappedArguments, BOOKINGS, "divmod(minute, 60)", "divmod(60, minute)"),
    plant(Kind::SwappedArguments, WORDS, "replace(\"&\", \"and\")", "replace(\"and\", \"&\")"),
    plant(Kind::SwappedArguments, WORDS, "counts.get(word, 0)", "counts.get(0, word)"),
    plant(Kind::SwappedArguments, STOCK, "(price, quantity) for price", "(quantity, price) for price"),
    plant(Kind::SwappedArguments, STOCK, "+ shipping(subtotal, pickup)", "+ shipping(pickup, subtotal)"),
    plant(Kind::SwappedArguments, STOCK, "range(0, len(names), size)", "range(len(names), 0, size)"),
    plant(Kind::Arithmetic, BOOKINGS, "self.end - self.start", "self.end + self.start"),
    plant(Kind::Arithmetic, BOOKINGS, "(closing - opening)", "(closing + opening)"),
    plant(Kind::Arithmetic, WORDS, "1] + ordered", "1] - ordered"),
    plant(Kind::Arithmetic, WORDS, "right) / len", "right) * len"),
    plant(Kind::Arithmetic, STOCK, "net + net * percent", "net - net * percent"),
    plant(Kind::Arithmetic, STOCK, "available -= given", "available += given"),
    plant(Kind::Arithmetic, STOCK, "reorder_at * 2", "reorder_at + 2"),
    plant(Kind::InvertedCondition, BOOKINGS, "if not merged or", "if merged or"),
    plant(Kind::InvertedCondition, BOOKINGS, "if overlap(", "if not overlap("),
    plant(Kind::InvertedCondition, WORDS, "word not in STOP", "word in STOP"),
    plant(Kind::InvertedCondition, WORDS, "if not left and", "if left and"),
    plant(Kind::InvertedCondition, WORDS, "if line else", "if not line else"),
    plant(Kind::InvertedCondition, STOCK, "and not i.discontinued", "and i.discontinued"),
    plant(Kind::InvertedCondition, STOCK, "if pickup or", "if not pickup or"),
    plant(Kind::Constant, BOOKINGS, "DAY = 24 * 60", "DAY = 12 * 60"),
    plant(Kind::Constant, BOOKINGS, "SHORTEST = 15", "SHORTEST = 30"),
    plant(Kind::Constant, WORDS, "limit=3", "limit=2"),
    plant(Kind::Constant, WORDS, "shortest=2", "shortest=4"),
    plant(Kind::Constant, STOCK, "VAT_PERCENT = 20", "VAT_PERCENT = 21"),
    plant(Kind::Constant, STOCK, "SHIPPING = 495", "SHIPPING = 595"),
    plant(Kind::Constant, STOCK, "return 15", "return 10"),
    plant(Kind::Constant, STOCK, "discontinued: bool = False", "discontinued: bool = True"),
    plant(Kind::Boolean, BOOKINGS, "within and booking", "within or booking"),
    plant(Kind::Boolean, BOOKINGS, "end and second", "end or second"),
    plant(Kind::Boolean, WORDS, "(word and char", "(word or char"),
    plant(Kind::Boolean, WORDS, "if line and len", "if line or len"),
    plant(Kind::Boolean, STOCK, "pickup or subtotal", "pickup and subtotal"),
    plant(Kind::Boolean, STOCK, "and not i.discontinued", "or not i.discontinued"),
];

const fn plant(kind: Kind, file: &'static str, before: &'static str, after: &'static str) -> Plant {
    Plant { kind, file, before, after }
}

impl Plant {
    /// The bug that belongs to this seed: first its kind is drawn, then its place.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let kind = Kind::ALL[dice.random_range(0..Kind::ALL.len())];
        let places: Vec<&Self> = CATALOGUE.iter().filter(|plant| plant.kind == kind).collect();
        places.choose(&mut dice).map_or(CATALOGUE[0], |plant| **plant)
    }

    /// The source with the bug in it; `None` unless `before` occurs exactly once.
    #[must_use]
    pub fn in_source(&self, source: &str) -> Option<String> {
        let once = source.matches(self.before).count() == 1;
        once.then(|| source.replacen(self.before, self.after, 1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_kind_is_in_every_module() {
        for kind in Kind::ALL {
            for file in [BOOKINGS, WORDS, STOCK] {
                assert!(CATALOGUE.iter().any(|p| p.kind == kind && p.file == file), "{kind:?} is missing from {file}");
            }
        }
    }

    #[test]
    fn a_seed_always_draws_the_same_and_seeds_differ() {
        assert_eq!(Plant::drawn(7), Plant::drawn(7));
        let drawn: HashSet<_> = (0..200).map(|s| (Plant::drawn(s).file, Plant::drawn(s).after)).collect();
        assert!(drawn.len() > CATALOGUE.len() / 2, "only {} different bugs", drawn.len());
    }

    #[test]
    fn a_snippet_must_occur_exactly_once() {
        let plant = plant(Kind::Comparison, WORDS, "a < b", "a <= b");
        assert_eq!(plant.in_source("if a < b:").as_deref(), Some("if a <= b:"));
        assert_eq!(plant.in_source("a < b and a < b"), None);
        assert_eq!(plant.in_source("nothing"), None);
    }
}
