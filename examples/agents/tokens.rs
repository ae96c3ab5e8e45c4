//! The words of one line of Python: enough of its grammar to change one of them.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lexeme {
    /// A name or a keyword.
    Name,
    /// A number.
    Number,
    /// A string, with its prefix and quotes.
    Text,
    /// An operator, a bracket or punctuation.
    Mark,
}

/// A piece of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Lexeme,
    /// What it says.
    pub text: &'a str,
    /// Where in the line it begins, in bytes.
    pub start: usize,
}

impl Token<'_> {
    /// Where in the line it ends, in bytes.
    #[must_use]
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether a value may end with it, so that an operator after it has two sides.
    #[must_use]
    pub fn ends_value(&self) -> bool {
        match self.kind {
            Lexeme::Name => !KEYWORDS.contains(&self.text),
            Lexeme::Number | Lexeme::Text => true,
            Lexeme::Mark => matches!(self.text, ")" | "]" | "}"),
        }
    }
}

/// Keywords that no value ends with.
const KEYWORDS: [&str; 19] = [
    "and", "as", "assert", "await", "def", "del", "elif", "else", "for", "from", "if", "import", "in", "is", "lambda",
    "not", "or", "return", "while",
];

/// Marks of more than one character, the longest first.
const LONG_MARKS: [&str; 25] = [
    "**=", "//=", ">>=", "<<=", "...", "!=", ">=", "<=", "==", "->", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=",
    ":=", "@=", "**", "//", "<<", ">>", "<>",
];

/// Splits a line; a comment ends it. A string that does not end on the line goes to its end.
#[must_use]
pub fn tokens(line: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = line[at..].chars().next() {
        if first == '#' {
            break;
        }
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let rest = &line[at..];
        let (kind, length) = token(rest, first);
        found.push(Token { kind, text: &rest[..length], start: at });
        at += length;
    }
    found
}

fn token(rest: &str, first: char) -> (Lexeme, usize) {
    let letters = |c: char| c.is_alphanumeric() || c == '_';
    let run = |wanted: &dyn Fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    if first.is_ascii_digit() {
        return (Lexeme::Number, run(&|c| letters(c) || c == '.'));
    }
    if letters(first) {
        let name = run(&letters);
        let quoted = rest[name..].starts_with(['"', '\'']);
        let prefix = name <= 2 && rest[..name].chars().all(|c| "rbfuRBFU".contains(c));
        if quoted && prefix {
            return (Lexeme::Text, name + quoted_length(&rest[name..]));
        }
        return (Lexeme::Name, name);
    }
    if first == '"' || first == '\'' {
        return (Lexeme::Text, quoted_length(rest));
    }
    let long = LONG_MARKS.iter().find(|mark| rest.starts_with(**mark));
    (Lexeme::Mark, long.map_or(first.len_utf8(), |mark| mark.len()))
}

/// The length of the string that `rest` begins with.
fn quoted_length(rest: &str) -> usize {
    let single = &rest[..1];
    let triple = single.repeat(3);
    let quote = if rest.starts_with(&triple) { triple.as_str() } else { single };
    let mut at = quote.len();
    while at < rest.len() {
        if rest[at..].starts_with(quote) {
            return at + quote.len();
        }
        let escaped = rest[at..].starts_with('\\');
        at += rest[at..].chars().take(if escaped { 2 } else { 1 }).map(char::len_utf8).sum::<usize>();
    }
    rest.len()
}

/// What stands between a pair of brackets, as far as it is on the line.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// The place of the opening bracket among the tokens.
    pub open: usize,
    /// The parts between commas, each as first and last token; empty ones are left out.
    pub parts: Vec<(usize, usize)>,
}

/// Every pair of brackets that opens and closes on the line. In square ones, a colon parts too.
#[must_use]
pub fn groups(tokens: &[Token<'_>]) -> Vec<Group> {
    let mut found = Vec::new();
    // The groups that are open, each with the place where its next part begins.
    let mut open: Vec<(Group, usize)> = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Lexeme::Mark) {
        match token.text {
            "(" | "[" | "{" => open.push((Group { open: at, parts: Vec::new() }, at + 1)),
            ")" | "]" | "}" => {
                if let Some((mut group, from)) = open.pop() {
                    group.parts.extend((from < at).then(|| (from, at - 1)));
                    found.push(group);
                }
            }
            "," | ":" => {
                if let Some((group, from)) = open.last_mut()
                    && (token.text == "," || tokens[group.open].text == "[")
                {
                    group.parts.extend((*from < at).then(|| (*from, at - 1)));
                    *from = at + 1;
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<&str> {
        tokens(line).iter().map(|token| token.text).collect()
    }

    #[test]
    fn a_line_falls_into_its_tokens() {
        assert_eq!(texts("    if a<=b[-1]: # why"), ["if", "a", "<=", "b", "[", "-", "1", "]", ":"]);
        assert_eq!(texts("x //= 2.5e3 ** y_1"), ["x", "//=", "2.5e3", "**", "y_1"]);
        assert_eq!(texts("é = 'ü#' + ß"), ["é", "=", "'ü#'", "+", "ß"]);
    }

    #[test]
    fn strings_stay_whole() {
        assert_eq!(texts(r#"f(rb'a', "it's \" #", f"{x}")"#).len(), 8);
        assert_eq!(texts(r#"x = """doc, < """ < 1"#), ["x", "=", r#""""doc, < """"#, "<", "1"]);
        assert_eq!(texts("x = 'open"), ["x", "=", "'open"]);
        assert_eq!(texts("x = '\\"), ["x", "=", "'\\"]);
    }

    #[test]
    fn brackets_have_parts() {
        let line = "f(a, g(b)[1:n], c=2)";
        let tokens = tokens(line);
        let parts: Vec<Vec<&str>> = groups(&tokens)
            .iter()
            .map(|group| {
                let part = |(first, last): &(usize, usize)| &line[tokens[*first].start..tokens[*last].end()];
                group.parts.iter().map(part).collect()
            })
            .collect();
        assert_eq!(parts, [vec!["b"], vec!["1", "n"], vec!["a", "g(b)[1:n]", "c=2"]]);
        assert_eq!(groups(&super::tokens(")(")), []);
    }
}
