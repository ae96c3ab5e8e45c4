//! The arguments of an attribute, as written: `"type", key = value, …`. Their values are read in
//! `options`.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Error, Expr, ExprLit, Lit, LitStr, Path, Result, Token};

use crate::mistakes::Mistakes;
use crate::options::{self, Opt, Value};

/// What an attribute was told.
pub(crate) struct Args {
    /// The task type, if there is a good one.
    pub(crate) kind: Option<LitStr>,
    /// The worker crate.
    pub(crate) krate: Path,
    /// The options given, each with the value to set it to.
    pub(crate) settings: Vec<(&'static str, TokenStream)>,
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
}

/// Reads the arguments of `#[task_handler]`. The name of the function serves the examples.
pub(crate) fn task_handler(tokens: TokenStream, name: &str, mistakes: &mut Mistakes) -> Args {
    let mut list = split(tokens, options::HANDLER, mistakes);
    let kind = match list.first() {
        Some(Argument::Lone(_)) => match list.remove(0) {
            Argument::Lone(expr) => mistakes.check(kind(&expr, name)),
            Argument::Pair(..) => None,
        },
        _ => {
            let given = |argument: &Argument| match argument {
                Argument::Lone(_) => true,
                Argument::Pair(key, _) => options::means_type(key),
            };
            // One in the wrong place is reported with the options.
            if !list.iter().any(given) {
                mistakes.add(missing_kind(&list, name));
            }
            None
        }
    };
    Args { kind, ..settings(list, options::HANDLER, mistakes) }
}

/// Reads the arguments of an attribute which knows `crate` only.
pub(crate) fn plain(tokens: TokenStream, mistakes: &mut Mistakes) -> Args {
    let list = split(tokens, &[], mistakes);
    settings(list, &[], mistakes)
}

fn kind(expr: &Expr, name: &str) -> Result<LitStr> {
    match options::bare(expr) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            options::check_name(text, "task type")?;
            Ok(text.clone())
        }
        other => Err(Error::new_spanned(
            other,
            format!("the task type is a string: #[task_handler(\"{}\")]", options::suggest_name(name)),
        )),
    }
}

fn missing_kind(list: &[Argument], name: &str) -> Error {
    let text = format!(
        "the task type is missing; it is the first argument: #[task_handler(\"{}\"{})]",
        options::suggest_name(name),
        if list.is_empty() { "" } else { ", …" },
    );
    match list.first() {
        Some(Argument::Pair(key, _)) => Error::new(key.span(), text),
        _ => Error::new(Span::call_site(), text),
    }
}

/// One argument, as written.
enum Argument {
    Lone(Expr),
    Pair(Ident, Expr),
}

impl Parse for Argument {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(Ident::peek_any) && input.peek2(Token![=]) {
            let key = input.call(Ident::parse_any)?;
            input.parse::<Token![=]>()?;
            if input.is_empty() || input.peek(Token![,]) {
                return Err(Error::new(key.span(), format!("`{key}` has no value")));
            }
            return Ok(Argument::Pair(key, input.parse()?));
        }
        Ok(Argument::Lone(input.parse()?))
    }
}

/// Splits at the commas. What cannot be read is reported and skipped, to see the rest.
fn split(tokens: TokenStream, known: &[Opt], mistakes: &mut Mistakes) -> Vec<Argument> {
    let read = |input: ParseStream<'_>| {
        let mut list = Vec::new();
        while !input.is_empty() {
            let good = match option_without_value(input, known) {
                Some(error) => Err(error),
                None => input.parse::<Argument>(),
            };
            let good = mistakes.check(good).map(|argument| list.push(argument)).is_some();
            if good && !input.is_empty() && !input.peek(Token![,]) {
                mistakes.add(input.error("expected a `,` before this"));
            }
            while !input.is_empty() && !input.peek(Token![,]) {
                input.parse::<TokenTree>()?;
            }
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(list)
    };
    read.parse2(tokens).unwrap_or_default()
}

/// `queue`, `queue("ops")` and `queue: "ops"`, where `queue = "ops"` is meant.
fn option_without_value(input: ParseStream<'_>, known: &[Opt]) -> Option<Error> {
    if input.peek2(Token![=]) {
        return None;
    }
    let key = input.fork().call(Ident::parse_any).ok()?;
    let option = known.iter().find(|option| key == option.name)?;
    Some(Error::new(key.span(), format!("write this option as `{} = {}`", option.name, option.example)))
}

/// Sorts out the `key = value` arguments: those known, unknown and repeated.
fn settings(list: Vec<Argument>, known: &[Opt], mistakes: &mut Mistakes) -> Args {
    let mut krate = None;
    let mut found: Vec<(&Opt, Expr)> = Vec::new();
    for argument in list {
        let (key, expr) = match argument {
            Argument::Pair(key, expr) => (key, expr),
            Argument::Lone(expr) => {
                mistakes.add(misplaced(&expr, known));
                continue;
            }
        };
        let taken = (key == "crate" && krate.is_some()) || found.iter().any(|(option, _)| key == option.name);
        if taken {
            mistakes.add(Error::new(key.span(), format!("the option `{key}` is given twice")));
        } else if key == "crate" {
            krate = Some(mistakes.check(crate_path(&expr)).unwrap_or_else(default_crate));
        } else if let Some(option) = known.iter().find(|option| key == option.name) {
            found.push((option, expr));
        } else {
            mistakes.add(options::unknown(&key, known));
        }
    }
    let krate = krate.unwrap_or_else(default_crate);
    let settings = found.into_iter().filter_map(|(option, expr)| {
        let value = Value { option, expr: options::bare(&expr), krate: &krate };
        Some((option.name, mistakes.check((option.read)(&value))?))
    });
    Args { settings: settings.collect(), kind: None, krate: krate.clone() }
}

fn misplaced(expr: &Expr, known: &[Opt]) -> Error {
    let text = match (known.is_empty(), expr) {
        (true, _) => "this attribute takes no arguments".to_owned(),
        (false, Expr::Lit(ExprLit { lit: Lit::Str(_), .. })) => {
            "the task type is the first argument, and there is one; an option is written `key = value`".to_owned()
        }
        (false, other) => format!("`{}` is not an option; write `key = value`", other.to_token_stream()),
    };
    Error::new_spanned(expr, text)
}

fn crate_path(expr: &Expr) -> Result<Path> {
    let wrong = |at: &dyn ToTokens| {
        Error::new_spanned(at, "`crate` takes the path of the worker crate: crate = \"my_crate::worker\"")
    };
    match options::bare(expr) {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
            text.parse_with(Path::parse_mod_style).map_err(|_| wrong(text))
        }
        other => Err(wrong(other)),
    }
}

fn default_crate() -> Path {
    syn::parse_quote!(::orchestrator_worker)
}
