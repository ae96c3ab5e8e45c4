//! Lines with a mistake, and whether the way back is among their changes.

use super::*;
use crate::plants::CATALOGUE;

fn texts(line: &str) -> Vec<String> {
    mutations(line, &[]).into_iter().map(|mutation| mutation.text).collect()
}

fn leads_to(line: &str, wanted: &str) {
    let made = texts(line);
    assert!(made.iter().any(|text| text == wanted), "{line} never became {wanted}, but {made:#?}");
}

#[test]
fn operators_and_words_are_replaced() {
    leads_to("    if a <= b:", "    if a < b:");
    leads_to("x = a - b", "x = a + b");
    leads_to("total -= price", "total += price");
    leads_to("return a or b", "return a and b");
    leads_to("flag: bool = True", "flag: bool = False");
    leads_to("return min(a, b)", "return max(a, b)");
}

#[test]
fn conditions_are_turned_round() {
    leads_to("if ready:", "if not ready:");
    leads_to("if not ready:", "if ready:");
    leads_to("if a and b:", "if a and not b:");
    leads_to("if a in b:", "if a not in b:");
    leads_to("if a not in b:", "if a in b:");
    leads_to("if a is None:", "if a is not None:");
    leads_to("if a is not None:", "if a is None:");
    assert!(!texts("for a in b:").iter().any(|text| text.contains("not in")));
}

#[test]
fn numbers_and_bounds_move_by_one() {
    leads_to("def f(n=2):", "def f(n=3):");
    leads_to("x = y[0]", "x = y[1]");
    leads_to("for i in range(n):", "for i in range(n + 1):");
    leads_to("for i in range(i, n - 1):", "for i in range(i, n):");
    leads_to("for i in range(1, n):", "for i in range(n):");
    leads_to("x = y[:n]", "x = y[:n - 1]");
    leads_to("return (a + b) // c", "return (a + b - 1) // c");
    leads_to("RATE = 0.5", "RATE = 5.0");
    let known = mutations("SHIPPING = 595", &["495".into()]);
    assert!(known.iter().any(|mutation| mutation.text == "SHIPPING = 495"));
}

#[test]
fn arguments_change_places() {
    leads_to("x = f(a, g(b, c))", "x = f(g(b, c), a)");
    leads_to("x = f(a, g(b, c))", "x = f(a, g(c, b))");
    leads_to("x = f(a, b, c)", "x = f(a, c, b)");
    assert!(!texts("x = f(a, key=b)").iter().any(|text| text.contains("key=b, a")));
    assert!(!texts("def f(a, b):").iter().any(|text| text.contains("(b, a)")));
}

#[test]
fn one_sided_operators_and_strings_are_no_operators() {
    assert_eq!(texts("f(*rest, **more)"), Vec::<String>::new());
    assert_eq!(texts("x = 'a < b and 1'"), Vec::<String>::new());
    leads_to("x = -y", "x = y");
}

#[test]
fn no_change_is_made_twice_and_none_is_the_line_itself() {
    let line = "if a <= b[0] and f(1, 1) + 10 > 0:";
    let made = texts(line);
    let different: std::collections::HashSet<_> = made.iter().collect();
    assert_eq!(different.len(), made.len());
    assert!(!made.iter().any(|text| text == line));
}

#[test]
fn every_planted_bug_has_a_way_back() {
    for plant in CATALOGUE {
        let file = match plant.file {
            "shop/bookings.py" => include_str!("scratch/shop/bookings.py"),
            "shop/words.py" => include_str!("scratch/shop/words.py"),
            _ => include_str!("scratch/shop/stock.py"),
        };
        let planted = plant.in_source(file).expect("fits");
        let (bad, good) = planted.lines().zip(file.lines()).find(|(bad, good)| bad != good).expect("differs");
        let literals = ["5", "15", "495", "20"].map(String::from);
        let back = mutations(bad, &literals).into_iter().any(|mutation| mutation.text == good);
        assert!(back, "nothing leads from {bad} to {good}");
    }
}
