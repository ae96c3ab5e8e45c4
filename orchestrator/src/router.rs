//! Which queue a task goes to.
//!
//! In order: the queue named on the task; the first custom rule that matches; the queue that a present worker
//! published for the type; the built-in table. A type that none of them knows is refused, with the list of known ones.

use crate::{Error, Priority, Result, Source};

/// Types known without any worker, and the agents' queues that they go to.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("faq", "faq_agent"),
    ("kb_update", "faq_agent"),
    ("bugfix", "dev_agent"),
    ("refactor", "dev_agent"),
    ("feature", "dev_agent"),
    ("investigate", "dev_agent"),
    ("deploy", "ops_agent"),
    ("monitor", "ops_agent"),
    ("alert", "ops_agent"),
];

/// Queue of a handler whose type the table does not know and that names none itself.
pub const QUEUE_DEFAULT: &str = "default";

/// Custom rules a router may hold.
pub const RULES_MAX: usize = 1000;

/// One custom rule. All conditions given must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// A task type, or a prefix followed by `*` (`ci.*`, or `*` for all).
    pub task_type: String,
    /// Only tasks of this priority.
    pub priority: Option<Priority>,
    /// Only tasks from this source.
    pub source: Option<Source>,
    /// The queue that they go to.
    pub queue: String,
}

impl Rule {
    /// Sends every task of `task_type` (or of the prefix before a final `*`) to `queue`.
    #[must_use]
    pub fn new(task_type: &str, queue: &str) -> Self {
        Self { task_type: task_type.into(), priority: None, source: None, queue: queue.into() }
    }

    fn matches(&self, task_type: &str, priority: Priority, source: Source) -> bool {
        let type_fits = match self.task_type.strip_suffix('*') {
            Some(prefix) => task_type.starts_with(prefix),
            None => task_type == self.task_type,
        };
        type_fits && self.priority.is_none_or(|p| p == priority) && self.source.is_none_or(|s| s == source)
    }
}

/// The table of rules; custom ones first, in the order given.
#[derive(Clone, Debug, Default)]
pub struct Router {
    rules: Vec<Rule>,
}

impl Router {
    /// Adds a rule behind those already there.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a bad name or more than [`RULES_MAX`] rules.
    pub fn add(&mut self, rule: Rule) -> Result {
        check_name("queue", &rule.queue)?;
        let stem = rule.task_type.strip_suffix('*').unwrap_or(&rule.task_type);
        if !(stem.is_empty() && rule.task_type == "*") {
            check_name("task type", stem)?;
        }
        if self.rules.len() == RULES_MAX {
            return Err(Error::invalid(format!("a router holds at most {RULES_MAX} rules")));
        }
        self.rules.push(rule);
        Ok(())
    }

    /// The custom rules, in the order in which they are tried.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The queues that rules may send tasks of a type to.
    pub(crate) fn homes(&self, task_type: &str) -> Vec<String> {
        let fits =
            |rule: &&Rule| rule.matches(task_type, rule.priority.unwrap_or_default(), rule.source.unwrap_or_default());
        self.rules.iter().filter(fits).map(|rule| rule.queue.clone()).collect()
    }

    /// The queue by custom rule.
    pub(crate) fn by_rule(&self, task_type: &str, priority: Priority, source: Source) -> Option<&str> {
        self.rules.iter().find(|rule| rule.matches(task_type, priority, source)).map(|rule| rule.queue.as_str())
    }
}

/// The queue of a type in the built-in table.
#[must_use]
pub fn built_in(task_type: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == task_type).map(|(_, queue)| *queue)
}

/// Refuses what is not a name: 1 to 64 of `a-z 0-9 _ . -`.
///
/// # Errors
/// [`Error::Invalid`], naming the kind of name.
pub fn check_name(kind: &str, name: &str) -> Result {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
        return Err(Error::invalid(format!(
            "`{}` is no name for a {kind}: use 1 to 64 of the characters a-z 0-9 _ . -",
            crate::error::excerpt(name)
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_wins() {
        let mut router = Router::default();
        router.add(Rule { priority: Some(Priority::P0), ..Rule::new("*", "urgent") }).expect("a fair rule");
        router.add(Rule::new("ci.*", "build_agent")).expect("a fair rule");
        router.add(Rule::new("ci.lint", "never")).expect("a fair rule");
        let queue = |task_type, priority| router.by_rule(task_type, priority, Source::User);
        assert_eq!(queue("ci.lint", Priority::P0), Some("urgent"));
        assert_eq!(queue("ci.lint", Priority::P2), Some("build_agent"));
        assert_eq!(queue("bugfix", Priority::P2), None);
        assert_eq!(built_in("bugfix"), Some("dev_agent"));
    }

    #[test]
    fn bad_names_are_refused() {
        for name in ["", "Ops", "a b", "a{b}", "é", &"x".repeat(65)] {
            assert!(check_name("queue", name).is_err(), "{name}");
        }
        assert!(Router::default().add(Rule::new("CI.*", "x")).is_err());
        assert!(Router::default().add(Rule::new("", "x")).is_err());
    }
}
