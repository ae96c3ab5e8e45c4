//! Writes a small Python function from examples of what it gives, with tests of those examples.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::branch::{Landed, WorkError, Workplace};
use crate::tokens::tokens;
use crate::{process, suite};

/// The program that looks for the expression.
const PROGRAM: &str = include_str!("synthesise.py");

/// How long it may look, in seconds.
const SECONDS: u32 = 20;

/// Fewer examples leave too much open; more are no examples.
const EXAMPLES: std::ops::RangeInclusive<usize> = 2..=50;

/// A function that is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// What it is called.
    pub name: String,
    /// What it does, in one line.
    pub doc: String,
    /// What it takes.
    pub parameters: Vec<String>,
    /// What it gives; each becomes a test.
    pub examples: Vec<Example>,
}

/// What a function gives for some arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The arguments, as many as there are parameters.
    pub args: Vec<Value>,
    /// What it gives for them.
    pub result: Value,
}

/// A function that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// What it returns.
    pub expression: String,
    /// How many expressions were evaluated until this one.
    pub tried: u64,
    /// How many tests passed before: all there were.
    pub tests_before: u32,
    /// How many pass now, those of the examples among them: all there are.
    pub tests_after: u32,
}

/// What the program says.
#[derive(Deserialize)]
struct Said {
    expression: Option<String>,
    tried: u64,
}

/// Adds the function to a module of the repository, in a copy, and commits it with its tests on the branch
/// `feature/<task>` when all tests pass. What was committed for the same task before is found again.
///
/// # Errors
/// When the repository is in use, the wish makes no sense, or no small expression fits the examples.
pub async fn write(repo: &Path, task: &str, module: &Path, spec: &Spec) -> Result<Landed<Written>, WorkError> {
    check(module, spec)?;
    let place = Workplace::new(repo, "feature", task).await?;
    if let Some(done) = place.find().await? {
        return Ok(done);
    }
    let tests_before = place.before().await?;
    let copy = place.path();
    let path = copy.join(module);
    let Ok(source) = std::fs::read_to_string(&path) else {
        return Err(WorkError::Refused(format!("there is no module {}", module.display())));
    };
    if source.lines().any(|line| tokens(line).iter().any(|token| token.text == spec.name)) {
        return Err(WorkError::Refused(format!("{} is a name in {} already", spec.name, module.display())));
    }
    let test = copy.join("tests").join(format!("test_{}.py", spec.name));
    if test.exists() || !copy.join("tests").is_dir() {
        return Err(WorkError::Refused(format!("tests/test_{}.py cannot be a new file", spec.name)));
    }
    let Said { expression, tried } = look(&copy, spec).await?;
    let Some(expression) = expression else {
        let why = format!("no small expression gives what the examples say; {tried} were evaluated");
        return Err(WorkError::Refused(why));
    };
    std::fs::write(&path, format!("{}\n\n\n{}", source.trim_end(), function(spec, &expression)))?;
    std::fs::write(&test, tests_of(spec, module))?;
    let tests_after = place.after().await?;
    let added = u32::try_from(spec.examples.len()).unwrap_or(u32::MAX);
    if tests_after != tests_before + added {
        let why = format!("{tests_after} tests ran, not {tests_before} and {added} new ones");
        return Err(WorkError::FailsAfter(why));
    }
    let message = format!(
        "Add {} to {}\n\n    {expression}\n\nThe smallest expression found that gives what all {added} examples say, \
         after {tried} others.\nThe examples are tests now; {tests_after} tests pass.",
        spec.name,
        module.display()
    );
    place.land(&message, Written { expression, tried, tests_before, tests_after }).await
}

/// Refuses what cannot be written into a file as it is.
fn check(module: &Path, spec: &Spec) -> Result<(), WorkError> {
    let refuse = |why: String| Err(WorkError::Refused(why));
    let inside = module.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || module.extension().is_none_or(|end| end != "py") {
        return refuse(format!("{} is no module within the repository", module.display()));
    }
    if let Some(name) = std::iter::once(&spec.name).chain(&spec.parameters).find(|name| !is_name(name)) {
        return refuse(format!("`{name}` is no name: use a-z, 0-9 and _"));
    }
    let plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    if spec.doc.is_empty() || spec.doc.chars().count() > 110 || !spec.doc.chars().all(plain) {
        return refuse("the documentation is one line of at most 110 characters, without quotes".to_owned());
    }
    if !EXAMPLES.contains(&spec.examples.len()) {
        return refuse(format!("{} examples are given; 2 to 50 are needed", spec.examples.len()));
    }
    match spec.examples.iter().find(|example| example.args.len() != spec.parameters.len()) {
        Some(odd) => refuse(format!("an example has {} arguments, not {}", odd.args.len(), spec.parameters.len())),
        None => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.len() <= 40 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(fits)
}

/// Has the expression looked for.
async fn look(dir: &Path, spec: &Spec) -> Result<Said, WorkError> {
    let wish = serde_json::json!({ "parameters": spec.parameters, "examples": spec.examples, "seconds": SECONDS });
    let command = suite::python(dir, &["-I", "-c", PROGRAM, &wish.to_string()]);
    let done = process::run(command, suite::PATIENCE).await?;
    serde_json::from_str(&done.stdout).map_err(|_| {
        let last = done.stderr.lines().last().unwrap_or("it did not come to an end");
        std::io::Error::other(format!("the search gave no answer: {last}")).into()
    })
}

fn function(spec: &Spec, expression: &str) -> String {
    let (name, parameters, doc) = (&spec.name, spec.parameters.join(", "), &spec.doc);
    format!("def {name}({parameters}):\n    \"\"\"{doc}\"\"\"\n    return {expression}\n")
}

fn tests_of(spec: &Spec, module: &Path) -> String {
    let from = module.with_extension("").display().to_string().replace('/', ".");
    let name = &spec.name;
    // Names are ASCII: see `is_name`.
    let capital = |word: &str| word.get(..1).unwrap_or_default().to_uppercase() + word.get(1..).unwrap_or_default();
    let class: String = name.split('_').map(capital).collect();
    let mut text = format!("import unittest\n\nfrom {from} import {name}\n\n\nclass {class}Test(unittest.TestCase):");
    for (at, example) in spec.examples.iter().enumerate() {
        let args = example.args.iter().map(literal).collect::<Vec<_>>().join(", ");
        let result = literal(&example.result);
        let number = at + 1;
        text +=
            &format!("\n    def test_example_{number}(self):\n        self.assertEqual({name}({args}), {result})\n");
    }
    text
}

/// A value as Python writes it.
fn literal(value: &Value) -> String {
    let all = |values: &[Value]| values.iter().map(literal).collect::<Vec<_>>().join(", ");
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        // JSON's numbers and strings are Python's too.
        Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(values) => format!("[{}]", all(values)),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| format!("{}: {}", Value::from(key.as_str()), literal(value));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
#[path = "synthesis_tests.rs"]
mod tests;
