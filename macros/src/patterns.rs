//! Patterns of event types, checked as the worker does when it starts.

use syn::{Error, Expr, ExprLit, Lit, LitStr, Result};

use crate::mistakes::Mistakes;
use crate::options::bare;

/// Longest pattern, in characters.
const LONGEST: usize = 128;
/// Patterns of one handler at most.
const MOST: usize = 100;

/// Reads a string or an array of strings, each of which may be a list with commas, into one list with commas.
pub(crate) fn read(expr: &Expr) -> Result<String> {
    let strings = match expr {
        Expr::Array(array) => array.elems.iter().map(bare).collect(),
        other => vec![other],
    };
    if strings.is_empty() {
        return Err(Error::new_spanned(expr, "there is no pattern in this array; write \"*\" for all events"));
    }
    let mut mistakes = Mistakes::default();
    let mut found = Vec::new();
    for expr in strings {
        match expr {
            Expr::Lit(ExprLit { lit: Lit::Str(literal), .. }) => list(literal, &mut found, &mut mistakes),
            other => {
                let text = "a pattern is a string, and several are an array of strings: \
                            #[event_handler(\"deploy.*\")], #[event_handler([\"pr.merged\", \"pr.closed\"])]";
                mistakes.add(Error::new_spanned(other, text));
            }
        }
    }
    if found.len() > MOST {
        let text = format!("a handler takes at most {MOST} patterns, not {}", found.len());
        mistakes.add(Error::new_spanned(expr, text));
    }
    mistakes.or(found.join(","))
}

/// Reads what is between the commas. One at the end is no mistake.
fn list(literal: &LitStr, found: &mut Vec<String>, mistakes: &mut Mistakes) {
    let text = literal.value();
    let patterns: Vec<_> = text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    if patterns.is_empty() {
        mistakes.add(Error::new_spanned(literal, "there is no pattern in this string; write \"*\" for all events"));
    }
    for pattern in patterns {
        if let Some(why) = fault(pattern) {
            let right = suggest(pattern).map_or_else(
                || "write \"deploy.succeeded\", \"deploy.*\", \"*.failed\" or \"*\"".to_owned(),
                |near| format!("did you mean \"{near}\"?"),
            );
            let text = format!("`{pattern}` is no pattern of event types: {why}; {right}");
            mistakes.add(Error::new_spanned(literal, text));
        }
        found.push(pattern.to_owned());
    }
}

/// What is wrong with a pattern, if anything.
fn fault(pattern: &str) -> Option<String> {
    let words = || pattern.split('.');
    let length = pattern.chars().count();
    match pattern.chars().find(|&c| !good(c) && c != '*' && c != '.') {
        _ if pattern == "*" => None,
        Some(bad) => Some(format!("`{}` is not one of a-z, 0-9, `_`, `.` and `*`", bad.escape_debug())),
        None if words().any(str::is_empty) => Some("a word is missing before or after a dot".to_owned()),
        None if words().any(|word| word != "*" && word.contains('*')) => {
            Some("a `*` stands for a whole word".to_owned())
        }
        None if words().nth(1).is_none() => {
            Some("it has one word, and an event type has two or more with dots between them".to_owned())
        }
        None if length > LONGEST => Some(format!("it has {length} characters, and {LONGEST} are the most")),
        None => None,
    }
}

fn good(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '_')
}

/// The good pattern nearest to the given one, if there is any near.
fn suggest(pattern: &str) -> Option<String> {
    let separated = pattern.to_lowercase().replace([':', '/'], ".").replace('*', ".*.");
    let plain = separated.replace(|c| !good(c) && c != '*' && c != '.', "_");
    let words: Vec<_> = plain.split('.').filter(|word| !word.is_empty()).collect();
    let near = match words[..] {
        [only] if only != "*" => format!("{only}.*"),
        _ => words.join("."),
    };
    Some(near).filter(|near| fault(near).is_none() && near.contains(|c: char| c.is_ascii_alphanumeric()))
}
