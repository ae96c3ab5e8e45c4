//! Small changes to one line of Python, each of them a mistake people make, turned round.

use crate::tokens::{Group, Lexeme, Token, groups, tokens};

/// One way to change a line.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutation {
    /// The line after the change.
    pub text: String,
    /// How often a mistake of this kind is the reason, from 0 to 1.
    pub weight: f64,
}

/// What may stand in place of a token, the likelier the higher its weight.
const REPLACED: &[(&str, &[(&str, f64)])] = &[
    ("<", &[("<=", 1.0), (">=", 0.7), (">", 0.6)]),
    ("<=", &[("<", 1.0), (">", 0.7), (">=", 0.6)]),
    (">", &[(">=", 1.0), ("<=", 0.7), ("<", 0.6)]),
    (">=", &[(">", 1.0), ("<", 0.7), ("<=", 0.6)]),
    ("==", &[("!=", 0.9), (">=", 0.5), ("<=", 0.5)]),
    ("!=", &[("==", 0.9), ("<", 0.4), (">", 0.4)]),
    ("+", &[("-", 0.9), ("*", 0.6)]),
    ("-", &[("+", 0.9), ("*", 0.4)]),
    ("*", &[("/", 0.7), ("+", 0.7), ("//", 0.6), ("-", 0.4), ("**", 0.4)]),
    ("/", &[("*", 0.8), ("//", 0.8), ("-", 0.4)]),
    ("//", &[("/", 0.8), ("%", 0.7), ("*", 0.6)]),
    ("%", &[("//", 0.8), ("*", 0.4)]),
    ("**", &[("*", 0.8)]),
    ("+=", &[("-=", 0.9), ("*=", 0.5), ("=", 0.5)]),
    ("-=", &[("+=", 0.9), ("=", 0.5)]),
    ("*=", &[("/=", 0.7), ("+=", 0.6), ("//=", 0.5)]),
    ("/=", &[("*=", 0.8), ("//=", 0.6)]),
    ("&", &[("|", 0.8)]),
    ("|", &[("&", 0.8)]),
    ("and", &[("or", 0.9)]),
    ("or", &[("and", 0.9)]),
    ("True", &[("False", 0.8)]),
    ("False", &[("True", 0.8)]),
    ("min", &[("max", 0.8)]),
    ("max", &[("min", 0.8)]),
    ("any", &[("all", 0.8)]),
    ("all", &[("any", 0.8)]),
    ("lower", &[("upper", 0.6)]),
    ("upper", &[("lower", 0.6)]),
    ("lstrip", &[("rstrip", 0.6), ("strip", 0.6)]),
    ("rstrip", &[("lstrip", 0.6), ("strip", 0.6)]),
    ("startswith", &[("endswith", 0.6)]),
    ("endswith", &[("startswith", 0.6)]),
    ("break", &[("continue", 0.6)]),
    ("continue", &[("break", 0.6)]),
];

/// Every change to a line that is worth a try. `literals` are numbers that may be the right ones.
#[must_use]
pub fn mutations(line: &str, literals: &[String]) -> Vec<Mutation> {
    let tokens = tokens(line);
    let mut out = Changes { line, made: Vec::new() };
    for at in 0..tokens.len() {
        replace(&mut out, &tokens, at);
        negate(&mut out, &tokens, at);
        if tokens[at].kind == Lexeme::Number {
            number(&mut out, &tokens, at, literals);
        }
    }
    // The parameters of a definition are not its arguments.
    let definition = tokens.first().is_some_and(|token| matches!(token.text, "def" | "async" | "class"));
    for group in groups(&tokens).iter().filter(|_| !definition) {
        swap(&mut out, &tokens, group);
        shift(&mut out, &tokens, group);
    }
    out.made
}

/// The changes so far.
struct Changes<'a> {
    line: &'a str,
    made: Vec<Mutation>,
}

impl Changes<'_> {
    /// Notes the line with something else between two places of it, unless that was noted before.
    fn put(&mut self, start: usize, end: usize, instead: &str, weight: f64) {
        let text = format!("{}{instead}{}", &self.line[..start], &self.line[end..]);
        match self.made.iter_mut().find(|made| made.text == text) {
            Some(made) => made.weight = made.weight.max(weight),
            None if text != self.line => self.made.push(Mutation { text, weight }),
            None => {}
        }
    }
}

fn replace(out: &mut Changes<'_>, tokens: &[Token<'_>], at: usize) {
    let token = tokens[at];
    let two_sided = at > 0 && tokens[at - 1].ends_value();
    if token.kind == Lexeme::Mark && !two_sided {
        if token.text == "-" {
            out.put(token.start, token.end(), "", 0.6);
        }
        return;
    }
    let Some((_, instead)) = REPLACED.iter().find(|(text, _)| *text == token.text) else {
        return;
    };
    for (text, weight) in *instead {
        out.put(token.start, token.end(), text, *weight);
    }
}

/// Says the opposite: with `not` where there is none, and without it where there is one.
fn negate(out: &mut Changes<'_>, tokens: &[Token<'_>], at: usize) {
    let token = tokens[at];
    let Some(next) = tokens.get(at + 1) else {
        return;
    };
    let after = |text: &str| at > 0 && tokens[at - 1].text == text;
    match token.text {
        "not" => out.put(token.start, next.start, "", 0.9),
        "if" | "elif" | "while" | "and" | "or" if next.text != "not" => {
            out.put(next.start, next.start, "not ", 0.75);
        }
        "return" if next.text != "not" => out.put(next.start, next.start, "not ", 0.3),
        "in" if !after("not") && !in_loop(&tokens[..at]) => {
            out.put(token.start, token.end(), "not in", 0.8);
        }
        "is" if next.text != "not" => out.put(token.end(), token.end(), " not", 0.8),
        _ => {}
    }
}

/// Whether the `in` after these tokens belongs to a `for`.
fn in_loop(before: &[Token<'_>]) -> bool {
    before.iter().rev().find(|token| matches!(token.text, "for" | "in")).is_some_and(|t| t.text == "for")
}

fn number(out: &mut Changes<'_>, tokens: &[Token<'_>], at: usize, literals: &[String]) {
    let token = tokens[at];
    let (start, end) = (token.start, token.end());
    if let Ok(value) = token.text.parse::<i64>() {
        let near = [value.checked_add(1), value.checked_sub(1)];
        let far = [value.checked_mul(2), value.checked_mul(10), Some(0)];
        let parts = [2, 10].map(|by| (value % by == 0).then_some(value / by));
        for (values, weight) in [(&near[..], 0.85), (&far[..], 0.5), (&parts[..], 0.5)] {
            for value in values.iter().flatten() {
                out.put(start, end, &value.to_string(), weight);
            }
        }
        if value == 1 && at > 1 && matches!(tokens[at - 1].text, "+" | "-") {
            out.put(tokens[at - 2].end(), end, "", 0.9);
        }
    } else if let Ok(value) = token.text.parse::<f64>() {
        for value in [value + 1.0, value - 1.0, value * 2.0, value / 2.0, value * 10.0, value / 10.0, 0.0] {
            out.put(start, end, &format!("{value:?}"), 0.5);
        }
    }
    for literal in literals {
        out.put(start, end, literal, 0.4);
    }
}

/// Two neighbouring arguments change places, or a range begins at its beginning.
fn swap(out: &mut Changes<'_>, tokens: &[Token<'_>], group: &Group) {
    let called = group.open > 0 && tokens[group.open - 1].ends_value();
    if tokens[group.open].text != "(" {
        return;
    }
    let plain = |(first, last): &(usize, usize)| {
        let inside = &tokens[*first..=*last];
        !inside.iter().any(|token| matches!(token.text, "=" | "for" | "lambda"))
            && !matches!(inside[0].text, "*" | "**")
    };
    if called && tokens[group.open - 1].text == "range" && group.parts.len() > 1 {
        let (from, to) = (tokens[group.parts[0].0].start, tokens[group.parts[1].0].start);
        out.put(from, to, "", 0.9);
    }
    let text = |(first, last): (usize, usize)| &out.line[tokens[first].start..tokens[last].end()];
    let pairs: Vec<_> = group
        .parts
        .windows(2)
        .filter(|pair| pair.iter().all(plain))
        .map(|pair| {
            let (left, right) = (pair[0], pair[1]);
            let between = &out.line[tokens[left.1].end()..tokens[right.0].start];
            let swapped = format!("{}{between}{}", text(right), text(left));
            (tokens[left.0].start, tokens[right.1].end(), swapped)
        })
        .collect();
    for (start, end, swapped) in pairs {
        out.put(start, end, &swapped, if called { 0.85 } else { 0.4 });
    }
}

/// A range, an index, a slice or a sum in brackets becomes one longer or one shorter.
fn shift(out: &mut Changes<'_>, tokens: &[Token<'_>], group: &Group) {
    let before = group.open.checked_sub(1).map(|at| tokens[at]).filter(Token::ends_value);
    let weight = match (tokens[group.open].text, before) {
        ("(", Some(name)) if name.text == "range" => 0.8,
        ("[", Some(_)) => 0.75,
        ("(", None) if group.parts.len() == 1 => 0.5,
        _ => return,
    };
    for (first, last) in &group.parts {
        let inside = &tokens[*first..=*last];
        if !inside.iter().any(|token| matches!(token.text, "for" | "if")) && inside[0].kind != Lexeme::Text {
            let end = tokens[*last].end();
            out.put(end, end, " + 1", weight);
            out.put(end, end, " - 1", weight);
        }
    }
}

#[cfg(test)]
#[path = "mutate_tests.rs"]
mod tests;
