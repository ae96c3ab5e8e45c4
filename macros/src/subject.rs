//! The first argument of an attribute: what the function handles.

use proc_macro2::Ident;
use syn::{Error, Expr, ExprLit, Lit, Result};

use crate::options;
use crate::patterns;

/// What an attribute says about its first argument.
pub(crate) struct Subject {
    /// Checks it, and gives the text of it. The name of the function serves the examples.
    pub(crate) read: fn(&Expr, &str) -> Result<String>,
    /// What it is called, and that it is one or several.
    what: &'static str,
    /// The attribute with a good one, for a function of this name, and with what follows.
    example: fn(&str, &str) -> String,
    /// Options which there are not, by which it may have been meant.
    names: &'static [&'static str],
    /// What is said to a second one.
    pub(crate) second: &'static str,
}

/// Of `#[task_handler]`.
pub(crate) const TASK: Subject = Subject {
    read: kind,
    what: "the task type is",
    example: |name, rest| format!("#[task_handler(\"{}\"{rest})]", options::suggest_name(name)),
    names: &["type", "task_type", "name", "kind"],
    second: "the task type is the first argument, and there is one; an option is written `key = value`",
};

/// Of `#[event_handler]`.
pub(crate) const EVENT: Subject = Subject {
    read: |expr, _| patterns::read(expr),
    what: "the pattern of event types is",
    example: |_, rest| format!("#[event_handler(\"deploy.*\"{rest})]"),
    names: &["type", "types", "event", "events", "event_type", "pattern", "patterns", "on"],
    second: "there is one first argument; write several patterns as an array, [\"pr.merged\", \"pr.closed\"]",
};

impl Subject {
    /// Whether it was meant by this key, for which there is no option.
    pub(crate) fn meant_by(&self, key: &Ident) -> bool {
        self.names.iter().any(|name| key == name)
    }

    /// What is said to such a key.
    pub(crate) fn unknown(&self, key: &Ident) -> Error {
        let text = format!("unknown option `{key}`; {} the first argument, without a name", self.what);
        Error::new(key.span(), text)
    }

    /// What is said if there is none.
    pub(crate) fn missing(&self, name: &str, alone: bool) -> String {
        let example = (self.example)(name, if alone { "" } else { ", …" });
        format!("{} missing; it is the first argument: {example}", self.what)
    }
}

/// A task type.
fn kind(expr: &Expr, name: &str) -> Result<String> {
    match expr {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            options::check_name(text, "task type")?;
            Ok(text.value())
        }
        other => Err(Error::new_spanned(other, format!("the task type is a string: {}", (TASK.example)(name, "")))),
    }
}
