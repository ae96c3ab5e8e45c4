//! Names and values as queries and HTML forms carry them.

use axum::http::StatusCode;

use super::Problem;

/// What was sent, in its order.
#[derive(Debug)]
pub(super) struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Reads `a=1&b=two+words`. Bytes that are no UTF-8 become U+FFFD.
    pub(super) fn read(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The one value of `name`.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("`{name}` is given twice; give it once"))),
        }
    }

    /// Refuses any name but these: one that is misspelt would silently count for nothing.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let Some((name, _)) = self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) else { return Ok(()) };
        let said = format!("`{}` means nothing here; known are: {}", crate::error::excerpt(name), known.join(" "));
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, said))
    }

    /// Names and values whose names begin with `prefix`, without it.
    pub(super) fn under<'p>(&'p self, prefix: &'p str) -> impl Iterator<Item = (&'p str, &'p str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_twins_are_refused() {
        let pairs = Pairs::read("a=1&b=two+w%C3%B6rds&form.x=%3Cb%3E&a=2&form.y=".as_bytes());
        assert!(pairs.one("a").is_err());
        assert_eq!(pairs.one("b").ok(), Some(Some("two wörds")));
        assert_eq!(pairs.one("c").ok(), Some(None));
        assert_eq!(pairs.under("form.").collect::<Vec<_>>(), [("x", "<b>"), ("y", "")]);
    }
}
