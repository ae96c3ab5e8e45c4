//! JSON read strictly: what cannot be kept exactly is refused, not bent.

use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::Problem;

/// Reads `bytes` as one JSON value of type `T`. Text that is no JSON is 400; JSON of the wrong shape is 422, with the path
/// to the first mistake.
pub(super) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Err(Problem::new(StatusCode::BAD_REQUEST, "the body is empty; send a JSON object")),
        // Serde would take a list for an object, field by field.
        Some(b'[') => return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "send a JSON object, not a list")),
        Some(_) => {}
    }
    // Keeping track of the path costs much: it is done only for those who need it.
    let value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(_) => with_path(bytes)?,
    };
    match inexact(bytes) {
        Some((line, column)) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the number at line {line} column {column} does not fit into 64 bits; send it as a text"),
        )),
        None => Ok(value),
    }
}

fn with_path<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        problem(&path, error.inner())
    });
    let value = read?;
    reader.end().map_err(|error| problem(".", &error))?;
    Ok(value)
}

fn problem(path: &str, error: &serde_json::Error) -> Problem {
    let (status, what) = match error.classify() {
        Category::Data => (StatusCode::UNPROCESSABLE_ENTITY, ""),
        _ => (StatusCode::BAD_REQUEST, "the body is not JSON: "),
    };
    let text = error.to_string();
    let hint = match text.contains("hex escape") || text.contains("surrogate") {
        true => "; an escape from \\ud800 to \\udfff is half of a surrogate pair and needs its other half",
        false => "",
    };
    let place = if path == "." { String::new() } else { format!("{path}: ") };
    Problem::new(status, format!("{what}{place}{text}{hint}"))
}

/// Line and column of the first whole number beyond 64 bits, which would be read as a rounded one. `json` is sound JSON.
pub(super) fn inexact(json: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => {
                at += 1;
                while json.get(at).is_some_and(|b| *b != b'"') {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let length = json[at..].iter().take_while(|b| b.is_ascii_digit() || b"+-.eE".contains(b)).count();
                let number = std::str::from_utf8(&json[at..at + length]).unwrap_or_default();
                let whole = !number.contains(['.', 'e', 'E']);
                if whole && number.parse::<u64>().is_err() && number.parse::<i64>().is_err() {
                    let line = json[..at].iter().filter(|b| **b == b'\n').count() + 1;
                    let start = json[..at].iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
                    return Some((line, at - start + 1));
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_beyond_64_bits_are_inexact() {
        for fair in [
            "0",
            "-0",
            "18446744073709551615",
            "-9223372036854775808",
            "[1.5, 1e300, -2.25E-3]",
            r#"{"18446744073709551616": "99999999999999999999", "a\"99999999999999999999": 1}"#,
        ] {
            assert_eq!(inexact(fair.as_bytes()), None, "{fair}");
        }
        assert_eq!(inexact(b"18446744073709551616"), Some((1, 1)));
        assert_eq!(inexact(b"[1,\n  -9223372036854775809]"), Some((2, 3)));
        assert_eq!(inexact(br#"{"a\\": 123456789012345678901}"#), Some((1, 9)));
    }
}
