//! A condition on a task, as data: what approval policies are written in.
//!
//! ```text
//! condition = and { "||" and }      and = atom { "&&" atom }
//! atom      = path "==" literal | path "in" "[" literal { "," literal } "]"
//! path      = "type" | "priority" | "source" | "args" { "." name } | "metadata" { "." name }
//! literal   = 'text' | number | true | false | null
//! ```
//!
//! Text is compared without regard to case and to blanks around it. There is no `!=`: a condition lists what it means, so that what
//! nobody thought of is not meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{Error, Priority, Result, Source};

/// Longest text of a condition, in bytes.
const LENGTH_MAX: usize = 1000;

/// A condition; made from text, told as that text.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    /// Any of these, each of which is all of its atoms.
    any: Vec<Vec<Atom>>,
}

/// Where a value is found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path(Vec<String>);

#[derive(Clone, Debug, PartialEq)]
struct Atom {
    path: Path,
    /// Any of these.
    values: Vec<Value>,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    /// The task's type.
    pub task_type: &'f str,
    /// Its priority.
    pub priority: Priority,
    /// Who asked for it.
    pub source: Source,
    /// The submitter's free fields.
    pub metadata: &'f Map<String, Value>,
    /// The payload, as JSON.
    pub args: &'f Value,
}

impl Condition {
    /// Whether it holds. What a path does not find is no value, and equals none.
    #[must_use]
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        self.any.iter().any(|all| all.iter().all(|atom| atom.holds(facts)))
    }

    /// Whether it asks for the payload.
    #[must_use]
    pub fn asks_for_args(&self) -> bool {
        self.any.iter().flatten().any(|atom| atom.path.0[0] == "args")
    }
}

impl Atom {
    fn holds(&self, facts: &Facts<'_>) -> bool {
        self.path.find(facts).is_some_and(|value| self.values.iter().any(|wanted| same(wanted, &value)))
    }
}

impl Path {
    /// The value there, if there is one.
    pub(crate) fn find(&self, facts: &Facts<'_>) -> Option<Value> {
        match self.0[0].as_str() {
            "type" => Some(Value::from(facts.task_type)),
            "priority" => Some(Value::from(facts.priority.to_string())),
            "source" => serde_json::to_value(facts.source).ok(),
            "metadata" => match self.0.get(1) {
                Some(name) => facts.metadata.get(name).and_then(|value| descend(value, &self.0[2..])).cloned(),
                None => None,
            },
            _ => descend(facts.args, &self.0[1..]).cloned(),
        }
    }
}

/// Reads a path alone.
pub(crate) fn path(text: &str) -> Result<Path> {
    let mut parser = Parser { text, at: 0 };
    let path = parser.path().and_then(|path| match parser.rest() {
        "" => Ok(path),
        rest => Err(format!("has something left over at `{}`", crate::error::excerpt(rest))),
    });
    path.map_err(|what| {
        Error::invalid(format!("the path `{}` {what}. Write it like: args.repo", crate::error::excerpt(text)))
    })
}

fn descend<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => plain(a) == plain(b),
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// In small letters and without the blanks around it.
fn plain(text: &str) -> String {
    text.trim().to_lowercase()
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, writer: S) -> std::result::Result<S::Ok, S::Error> {
        writer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(reader)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > LENGTH_MAX {
            return Err(Error::invalid(format!("a condition has at most {LENGTH_MAX} bytes")));
        }
        let mut parser = Parser { text, at: 0 };
        let any = parser.any().map_err(|what| {
            Error::invalid(format!(
                "the condition `{}` {what}. Write it like: args.env == 'dev' || args.env in ['test', 'staging']",
                crate::error::excerpt(text)
            ))
        })?;
        Ok(Self { text: text.trim().into(), any })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl Parser<'_> {
    fn rest(&mut self) -> &str {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        &self.text[self.at..]
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn any(&mut self) -> Result<Vec<Vec<Atom>>, String> {
        let mut any = vec![self.all()?];
        while self.eat("||") {
            any.push(self.all()?);
        }
        match self.rest() {
            "" => Ok(any),
            rest => Err(format!("has something left over at `{}`", crate::error::excerpt(rest))),
        }
    }

    fn all(&mut self) -> Result<Vec<Atom>, String> {
        let mut all = vec![self.atom()?];
        while self.eat("&&") {
            all.push(self.atom()?);
        }
        Ok(all)
    }

    fn path(&mut self) -> Result<Path, String> {
        let mut path = vec![self.name()?];
        while self.eat(".") {
            path.push(self.name()?);
        }
        let deep = path.len() > 1;
        match (path[0].as_str(), deep) {
            ("type" | "priority" | "source", false) | ("args" | "metadata", true) => {}
            ("payload", true) => path[0] = "args".into(),
            _ => {
                return Err(format!(
                    "asks for `{}`; known are type, priority, source, args.NAME and metadata.NAME",
                    path.join(".")
                ));
            }
        }
        Ok(Path(path))
    }

    fn atom(&mut self) -> Result<Atom, String> {
        let path = self.path()?;
        if self.eat("==") {
            return Ok(Atom { path, values: vec![self.literal()?] });
        }
        if self.eat("!=") {
            return Err("has `!=`, which would mean whatever nobody thought of; list what is meant".into());
        }
        if !self.eat("in") || !self.eat("[") {
            return Err(format!("has no `==` and no `in [..]` behind `{}`", path.0.join(".")));
        }
        let mut values = vec![self.literal()?];
        while self.eat(",") {
            values.push(self.literal()?);
        }
        match self.eat("]") {
            true => Ok(Atom { path, values }),
            false => Err("has a list without an end `]`".into()),
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let rest = self.rest();
        let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b == b'-').count();
        match length {
            0 => Err(match rest {
                "" => "ends too soon".into(),
                rest => format!("has no name at `{}`", crate::error::excerpt(rest)),
            }),
            _ => {
                let name = rest[..length].to_owned();
                self.at += length;
                Ok(name)
            }
        }
    }

    fn literal(&mut self) -> Result<Value, String> {
        let rest = self.rest();
        if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let Some(length) = rest[1..].find(quote) else {
                return Err(format!("has a text without its end {quote}"));
            };
            let text = rest[1..1 + length].to_owned();
            self.at += length + 2;
            return Ok(Value::from(text));
        }
        let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+')).count();
        let word = rest[..length].to_owned();
        self.at += length;
        match serde_json::from_str(&word) {
            Ok(value @ (Value::Bool(_) | Value::Number(_) | Value::Null)) => Ok(value),
            _ if length == 0 => Err("ends where a value should be".into()),
            _ => Err(format!("has `{word}` where a value should be; texts are written 'so'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(text: &str, args: &Value) -> bool {
        let metadata = json!({"flag": true, "deep": {"n": 3}});
        let metadata = metadata.as_object().expect("an object");
        let facts = Facts { task_type: "deploy", priority: Priority::P1, source: Source::Webhook, metadata, args };
        text.parse::<Condition>().expect("a condition").holds(&facts)
    }

    #[test]
    fn what_is_listed_is_meant_and_nothing_else() {
        let args = json!({"env": " DeV\t", "n": 3.0, "deep": {"x": null}});
        for text in [
            "args.env == 'dev'",
            "args.env in ['prod', \"DEV\"]",
            "type == 'deploy' && priority in ['P0','P1']",
            "args.env == 'x' || args.n == 3",
            "metadata.flag == true && metadata.deep.n == 3",
            "args.deep.x == null && source == 'webhook'",
            "payload.env == 'dev'",
        ] {
            assert!(holds(text, &args), "{text}");
        }
        for text in [
            "args.env == 'prod'",
            "args.missing == 'dev'",
            "args.missing == null",
            "args.env == 'd ev'",
            "args.n == '3'",
            "args.env.x == 'dev'",
        ] {
            assert!(!holds(text, &args), "{text}");
        }
        assert!(!holds("args.env == 'dev'", &json!("dev")));
        assert!(!holds("args.env == 'dev'", &json!({"env": ["dev"]})));
    }

    #[test]
    fn a_slip_is_named() {
        let fault = |text: &str| text.parse::<Condition>().expect_err(text).to_string();
        assert!(fault("args.env != 'prod'").contains("list what is meant"));
        assert!(fault("env == 'dev'").contains("asks for `env`; known are type"));
        assert!(fault("args.env == dev").contains("texts are written 'so'"));
        assert!(fault("args.env == 'dev").contains("without its end"));
        assert!(fault("args.env in ['a', 'b'").contains("without an end"));
        assert!(fault("args.env == 'a' and x").contains("left over"));
        assert!(fault("").contains("ends too soon"));
        assert!(fault("args.env ==").contains("ends where a value should be"));
        assert!(fault(&"x".repeat(2000)).contains("at most 1000"));
    }
}
