//! The arguments of an attribute, as written: `"type", key = value, key(key = value, …), …`. Their
//! values are read in `options` and `policies`.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Expr, ExprLit, ExprPath, Lit, LitStr, Result, Token, parenthesized, token};

use crate::events;
use crate::mistakes::Mistakes;
use crate::options::{self, Entries, List, Opt, Scope, Value};
use crate::subject::{self, Subject};

/// What an attribute was told.
pub(crate) struct Args {
    /// What is handled, if that is well said: the task type, or the patterns of event types with commas between them.
    pub(crate) subject: Option<String>,
    /// The worker crate.
    pub(crate) krate: TokenStream,
    /// The options given, each with the value to set it to.
    pub(crate) settings: Vec<(&'static str, TokenStream)>,
    /// The names of these and of those whose value is wrong.
    given: Vec<&'static str>,
}

impl Args {
    /// The module of what generated code uses, as if it were written at the given place.
    pub(crate) fn private(&self, place: Span) -> TokenStream {
        let krate = &self.krate;
        let path = quote!(#krate::__private).into_iter();
        let placed = path.map(|mut token| {
            token.set_span(place);
            token
        });
        placed.collect()
    }

    /// Whether there is this option, well written or not.
    pub(crate) fn gives(&self, name: &str) -> bool {
        self.given.contains(&name)
    }

    /// Whether this option is set to true; `None` when it is not well written.
    pub(crate) fn is_true(&self, name: &str) -> Option<bool> {
        match self.settings.iter().find(|(given, _)| *given == name) {
            Some((_, value)) => Some(value.to_string() == "true"),
            None => (!self.gives(name)).then_some(false),
        }
    }

    /// Takes out the value of an option.
    pub(crate) fn take(&mut self, name: &str) -> Option<TokenStream> {
        let found = self.settings.iter().position(|(given, _)| *given == name);
        found.map(|i| self.settings.remove(i).1)
    }
}

/// Reads the arguments of `#[task_handler]`. The name of the function serves the examples.
pub(crate) fn task_handler(tokens: TokenStream, name: &str, mistakes: &mut Mistakes) -> Args {
    handler(tokens, Scope::Task, &subject::TASK, name, mistakes)
}

/// Reads the arguments of `#[event_handler]`. The name of the function is that of the group, unless there is another.
pub(crate) fn event_handler(tokens: TokenStream, name: &Ident, mistakes: &mut Mistakes) -> Args {
    let text = name.unraw().to_string();
    let mut args = handler(tokens, Scope::Event, &subject::EVENT, &text, mistakes);
    if !args.gives("group") {
        let group = mistakes.check(events::group_of(&LitStr::new(&text, name.span())));
        args.settings.extend(group.map(|group| ("group", group)));
    }
    args
}

fn handler(tokens: TokenStream, scope: Scope, subject: &Subject, name: &str, mistakes: &mut Mistakes) -> Args {
    let mut list = split(tokens, scope, mistakes);
    let found = match list.first() {
        Some(Argument::Lone(_)) => match list.remove(0) {
            Argument::Lone(expr) => mistakes.check((subject.read)(options::bare(&expr), name)),
            Argument::Named(..) => None,
        },
        first => {
            let given = |argument: &Argument| match argument {
                Argument::Lone(_) => true,
                Argument::Named(key, _) => subject.meant_by(key),
            };
            // One in the wrong place is reported with the options.
            if !list.iter().any(given) {
                let place = match first {
                    Some(Argument::Named(key, _)) => key.span(),
                    _ => Span::call_site(),
                };
                mistakes.add(Error::new(place, subject.missing(name, list.is_empty())));
            }
            None
        }
    };
    Args { subject: found, ..settings(list, scope, mistakes) }
}

/// Reads the arguments of an attribute which knows `crate` only.
pub(crate) fn plain(tokens: TokenStream, mistakes: &mut Mistakes) -> Args {
    let list = split(tokens, Scope::Plain, mistakes);
    settings(list, Scope::Plain, mistakes)
}

/// One argument, as written.
enum Argument {
    Lone(Expr),
    Named(Ident, Form),
}

/// What follows the name of an option.
enum Form {
    Value(Expr),
    /// What the parentheses hold; nothing if there are none.
    List(&'static List, TokenStream),
}

fn argument(input: ParseStream<'_>, scope: Scope) -> Result<Argument> {
    let Ok(key) = input.fork().call(Ident::parse_any) else { return lone(input) };
    if input.peek2(Token![=]) {
        input.call(Ident::parse_any)?;
        input.parse::<Token![=]>()?;
        if ends(input) {
            return Err(Error::new(key.span(), format!("`{key}` has no value")));
        }
        return Ok(Argument::Named(key, Form::Value(input.parse()?)));
    }
    let Some(option) = find(&key, scope) else { return lone(input) };
    input.call(Ident::parse_any)?;
    match option.list {
        Some(list) if ends(input) => Ok(Argument::Named(key, Form::List(list, TokenStream::new()))),
        Some(list) if input.peek(token::Paren) => {
            let inner;
            parenthesized!(inner in input);
            Ok(Argument::Named(key, Form::List(list, inner.parse()?)))
        }
        // `queue`, `queue("ops")` and `queue: "ops"`, where `queue = "ops"` is meant.
        _ => Err(Error::new(key.span(), format!("write this option as `{}`", option.usage()))),
    }
}

/// An argument without a name. What is no expression, as `deploy.*`, is taken as it is, for its reader to say what is right.
fn lone(input: ParseStream<'_>) -> Result<Argument> {
    if input.fork().parse::<Expr>().is_ok() {
        return Ok(Argument::Lone(input.parse()?));
    }
    let mut tokens = TokenStream::new();
    while !ends(input) {
        tokens.extend([input.parse::<TokenTree>()?]);
    }
    Ok(Argument::Lone(Expr::Verbatim(tokens)))
}

fn ends(input: ParseStream<'_>) -> bool {
    input.is_empty() || input.peek(Token![,])
}

fn find(key: &Ident, scope: Scope) -> Option<&'static Opt> {
    scope.options().iter().find(|option| key == option.name)
}

/// Splits at the commas. What cannot be read is reported and skipped, to see the rest.
fn split(tokens: TokenStream, scope: Scope, mistakes: &mut Mistakes) -> Vec<Argument> {
    let read = |input: ParseStream<'_>| {
        let mut list = Vec::new();
        while !input.is_empty() {
            let good = mistakes.check(argument(input, scope)).map(|argument| list.push(argument)).is_some();
            if good && !ends(input) {
                mistakes.add(input.error("expected a `,` before this"));
            }
            while !ends(input) {
                input.parse::<TokenTree>()?;
            }
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(list)
    };
    read.parse2(tokens).unwrap_or_default()
}

/// An option, as given.
struct Given {
    option: &'static Opt,
    key: Ident,
    form: Form,
}

impl Given {
    fn read(&self, krate: &TokenStream) -> Result<TokenStream> {
        match &self.form {
            Form::Value(expr) => {
                let value = self.value(expr, krate);
                self.option.read.map_or_else(|| Err(value.wrong("takes a list")), |read| read(&value))
            }
            Form::List(list, tokens) => self.read_list(list, tokens, krate),
        }
    }

    fn read_list(&self, list: &'static List, tokens: &TokenStream, krate: &TokenStream) -> Result<TokenStream> {
        let mut mistakes = Mistakes::default();
        let scope = Scope::List(self.option, list);
        let mut given = sort(split(tokens.clone(), scope, &mut mistakes), scope, &mut mistakes);
        given.sort_by_key(|given| list.options.iter().position(|option| option.name == given.option.name));
        // What seems to be missing may be what could not be made out.
        let whole = mistakes.none();
        let calls = given.iter().filter_map(|given| mistakes.check(given.read(krate))).collect();
        let values = given.iter().filter_map(|given| match &given.form {
            Form::Value(expr) => Some(given.value(expr, krate)),
            Form::List(..) => None,
        });
        let entries = Entries { key: &self.key, krate, values: values.collect(), calls };
        let joined = if whole { mistakes.check((list.join)(&entries)) } else { None };
        mistakes.or(joined.unwrap_or_default())
    }

    fn value<'a>(&'a self, expr: &'a Expr, krate: &'a TokenStream) -> Value<'a> {
        Value { option: self.option, expr: options::bare(expr), krate }
    }
}

/// Sorts out the arguments with a name: those known, unknown and repeated.
fn sort(list: Vec<Argument>, scope: Scope, mistakes: &mut Mistakes) -> Vec<Given> {
    let mut found: Vec<Given> = Vec::new();
    for argument in list {
        match argument {
            Argument::Lone(expr) => mistakes.add(misplaced(&expr, scope)),
            Argument::Named(key, form) => match find(&key, scope) {
                Some(option) if found.iter().any(|given| given.option.name == option.name) => {
                    mistakes.add(Error::new(key.span(), format!("the option `{key}` is given twice")));
                }
                Some(option) => found.push(Given { option, key, form }),
                None => mistakes.add(options::unknown(&key, scope)),
            },
        }
    }
    found
}

fn settings(list: Vec<Argument>, scope: Scope, mistakes: &mut Mistakes) -> Args {
    let default = quote!(::orchestrator_worker);
    let (krate, given): (Vec<_>, _) =
        sort(list, scope, mistakes).into_iter().partition(|given| given.option.name == "crate");
    let krate = krate.first().and_then(|given| mistakes.check(given.read(&default))).unwrap_or(default);
    let settings = given.iter().filter_map(|given| Some((given.option.name, mistakes.check(given.read(&krate))?)));
    Args {
        subject: None,
        settings: settings.collect(),
        given: given.iter().map(|given| given.option.name).collect(),
        krate: krate.clone(),
    }
}

fn misplaced(expr: &Expr, scope: Scope) -> Error {
    // `aproval` and `aproval(by = "role:sre")`.
    let path = match expr {
        Expr::Call(call) => &call.func,
        other => other,
    };
    if let (Scope::Task | Scope::Event | Scope::List(..), Expr::Path(ExprPath { path, .. })) = (scope, path)
        && let Some(key) = path.get_ident()
    {
        return options::unknown(key, scope);
    }
    let text = match (scope, expr) {
        (Scope::Plain, _) => "this attribute takes no arguments".to_owned(),
        (Scope::Task, Expr::Lit(ExprLit { lit: Lit::Str(_), .. })) => subject::TASK.second.to_owned(),
        (Scope::Event, Expr::Lit(ExprLit { lit: Lit::Str(_), .. }) | Expr::Array(_)) => {
            subject::EVENT.second.to_owned()
        }
        (Scope::Task | Scope::Event, other) => {
            format!("`{}` is not an option; write `key = value`", other.to_token_stream())
        }
        (Scope::List(owner, _), other) => {
            let (other, name) = (other.to_token_stream(), owner.name);
            format!("`{other}` is not an option of `{name}`; write `key = value`, as in `{}`", owner.usage())
        }
    };
    Error::new_spanned(expr, text)
}
