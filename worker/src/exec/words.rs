//! Splits a command into words, without a shell.

/// The words of a command: blanks part them; within `'…'` everything is meant as it stands, within `"…"` all but `\"` and
/// `\\`, and elsewhere a backslash takes the meaning from the next character. Nothing is substituted.
///
/// # Errors
/// What is left open at the end.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut chars) = (Vec::new(), None::<String>, text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                let open = || format!("a {c} is not closed");
                loop {
                    match chars.next().ok_or_else(open)? {
                        end if end == c => break,
                        '\\' if c == '"' => match chars.next().ok_or_else(open)? {
                            meant @ ('"' | '\\') => word.push(meant),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("a \\ stands at the end")?),
            blank if blank.is_whitespace() => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_those_of_a_shell_without_its_substitutions() {
        for (text, words) in [
            ("  python3   greet.py\t-v ", &["python3", "greet.py", "-v"][..]),
            ("sh -c 'cat; echo \"$HOME\" *'", &["sh", "-c", "cat; echo \"$HOME\" *"]),
            (r#"a "b \" \\ \n c" d\ e"#, &["a", r#"b " \ \n c"#, "d e"]),
            ("x''y \"\"", &["xy", ""]),
            ("", &[]),
        ] {
            assert_eq!(
                split(text).as_deref(),
                Ok(words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>().as_slice()),
                "{text}"
            );
        }
        for text in ["a 'b", "a \"b", "a \"b\\", "a \\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
