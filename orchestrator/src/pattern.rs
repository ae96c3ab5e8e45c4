//! Names of event types, and patterns of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

/// Longest name of an event type, in bytes.
pub const EVENT_TYPE_MAX: usize = 128;
/// Patterns of one reader at most.
pub const PATTERNS_MAX: usize = 100;

/// Checks the name of an event type: dotted lower-case words, `deploy.succeeded`.
///
/// # Errors
/// [`Error::Invalid`], saying what is right.
pub fn check_event_type(name: &str) -> Result {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match name.len() <= EVENT_TYPE_MAX && name.contains('.') && name.split('.').all(word) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "`{}` is no event type; write two or more words of a-z, 0-9 and _ with dots between them, as in \
             deploy.succeeded, {EVENT_TYPE_MAX} characters at most",
            crate::error::excerpt(name)
        ))),
    }
}

/// Which event types are meant: a name, or words with `*` for any one word; a `*` at the end stands for any number of
/// words from one on, and `*` alone for everything. `deploy.*`, `*.failed`, `pr.*.merged`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventPattern(String);

impl EventPattern {
    /// Whether it means this type.
    #[must_use]
    pub fn matches(&self, event_type: &str) -> bool {
        let (mut wanted, mut words) = (self.0.split('.').peekable(), event_type.split('.'));
        while let Some(want) = wanted.next() {
            let Some(word) = words.next() else { return false };
            if want == "*" && wanted.peek().is_none() {
                return true;
            }
            if want != "*" && want != word {
                return false;
            }
        }
        words.next().is_none()
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // With a word in the place of every star it must be a type.
        let named = text.replace('*', "x");
        let stars_alone = text.split('.').all(|word| word == "*" || !word.contains('*'));
        if text == "*" || stars_alone && check_event_type(&named).is_ok() {
            return Ok(Self(text.into()));
        }
        Err(Error::invalid(format!(
            "`{}` is no pattern of event types; write deploy.succeeded, deploy.*, *.failed, or *",
            crate::error::excerpt(text)
        )))
    }
}

impl Serialize for EventPattern {
    fn serialize<S: Serializer>(&self, writer: S) -> std::result::Result<S::Ok, S::Error> {
        writer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EventPattern {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(reader)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a list such as `deploy.*,task.failed`.
///
/// # Errors
/// [`Error::Invalid`] for what is no pattern, and for more than [`PATTERNS_MAX`].
pub fn patterns(list: &str) -> Result<Vec<EventPattern>> {
    let found: Vec<EventPattern> =
        list.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::parse).collect::<Result<_>>()?;
    if found.is_empty() && !list.is_empty() {
        return Err(Error::invalid("a list of patterns without any; write deploy.*,task.failed, or nothing for all"));
    }
    match found.len() <= PATTERNS_MAX {
        true => Ok(found),
        false => Err(Error::invalid(format!("a reader takes at most {PATTERNS_MAX} patterns, not {}", found.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_words() {
        let matches = |pattern: &str, name: &str| pattern.parse::<EventPattern>().expect(pattern).matches(name);
        for (pattern, name) in [
            ("*", "deploy.started"),
            ("deploy.*", "deploy.started"),
            ("deploy.*", "deploy.canary.started"),
            ("*.failed", "task.failed"),
            ("a.*.c", "a.b.c"),
            ("deploy.started", "deploy.started"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("deploy.*", "deploy"),
            ("deploy.*", "deployment.started"),
            ("*.failed", "a.b.failed"),
            ("*.failed", "task.failed.twice"),
            ("a.*.c", "a.c"),
            ("deploy.started", "deploy.started.late"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for good in ["deploy.succeeded", "a.b.c_2", "task.created"] {
            assert!(check_event_type(good).is_ok(), "{good}");
        }
        for bad in
            ["deploy", "Deploy.started", "a..b", ".a", "a.", "a.b c", "ä.b", "a.*", &format!("a.{}", "b".repeat(130))]
        {
            assert!(check_event_type(bad).is_err(), "{bad}");
        }
        for bad in ["", "**", "deploy*", "deploy.*x", "Deploy.*", "a..*"] {
            assert!(bad.parse::<EventPattern>().is_err(), "{bad}");
        }
        assert_eq!(patterns("deploy.*, task.failed,").expect("two").len(), 2);
        assert!(patterns("").expect("all").is_empty() && patterns(" ,").is_err());
        assert!(patterns(&"a.b,".repeat(101)).is_err());
    }
}
