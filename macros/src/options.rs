//! The options of the attributes and the values they take. Those of one attribute alone are in `policies` and `events`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Lit, LitStr, Path, Result};

use crate::mistakes::Mistakes;
use crate::subject::{self, Subject};
use crate::{events, policies, schedules};

/// An option: `name = value`, `name(key = value, …)`, or either. A new one takes one row here and
/// a field of the same name in `HandlerSpec` or `EventSpec`.
pub(crate) struct Opt {
    pub(crate) name: &'static str,
    /// A good value, or a good list if there is no other form; for the messages.
    example: &'static str,
    /// Reads the value into the expression which the field is set to.
    pub(crate) read: Option<Read>,
    pub(crate) list: Option<&'static List>,
}

impl Opt {
    /// The option as it is to be written.
    pub(crate) fn usage(&self) -> String {
        let Opt { name, example, read, .. } = self;
        if read.is_some() { format!("{name} = {example}") } else { format!("{name}({example})") }
    }
}

type Read = fn(&Value<'_>) -> Result<TokenStream>;

/// What an option takes in parentheses.
pub(crate) struct List {
    /// Each is read into a call of a method, `.name(value)`. They are called in this order.
    pub(crate) options: &'static [Opt],
    /// Makes the expression of the calls, and checks what no single value shows.
    pub(crate) join: fn(&Entries<'_>) -> Result<TokenStream>,
}

/// Where options are written.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    /// An attribute which has none of its own.
    Plain,
    Task,
    Event,
    List(&'static Opt, &'static List),
}

impl Scope {
    /// The options there are.
    pub(crate) fn options(self) -> &'static [Opt] {
        match self {
            Scope::Plain => PLAIN,
            Scope::Task => TASK,
            Scope::Event => EVENT,
            Scope::List(_, list) => list.options,
        }
    }

    /// What the first argument is.
    fn subject(self) -> Option<&'static Subject> {
        match self {
            Scope::Task => Some(&subject::TASK),
            Scope::Event => Some(&subject::EVENT),
            Scope::Plain | Scope::List(..) => None,
        }
    }
}

const CRATE: Opt = opt("crate", "\"my_crate::worker\"", krate);

const PLAIN: &[Opt] = &[CRATE];

const TASK: &[Opt] = &[
    opt("queue", "\"ops\"", queue),
    opt("priority", "P1", priority),
    opt("retries", "3", retries),
    opt("backoff", "\"exp(2s, 10m)\"", backoff),
    opt("timeout", "\"15m\"", timeout),
    opt("cancel_grace", "\"30s\"", cancel_grace),
    opt("no_retry", "[BadSha]", no_retry),
    opt("expires", "\"1h\"", expires),
    policy("unique", "by = \"args.repo\"", None, &policies::UNIQUE),
    opt("blocking", "true", blocking),
    policy("approval", "by = \"role:sre\"", None, &policies::APPROVAL),
    policy("sla", "\"30m\"", Some(policies::target), &policies::SLA),
    opt("cron", "\"*/5 * * * *\"", schedules::cron),
    opt("tz", "\"Europe/Berlin\"", schedules::tz),
    opt("overlap", "\"skip\"", schedules::overlap),
    opt("catch_up", "\"latest\"", schedules::catch_up),
    CRATE,
];

const EVENT: &[Opt] = &[
    opt("group", "\"release-notes\"", events::group),
    opt("retries", "3", retries),
    opt("backoff", "\"exp(2s, 10m)\"", backoff),
    opt("timeout", "\"15m\"", timeout),
    opt("at_once", "16", events::at_once),
    opt("from", "\"oldest\"", events::from),
    opt("start", "deploy", events::start),
    CRATE,
];

pub(crate) const fn opt(name: &'static str, example: &'static str, read: Read) -> Opt {
    Opt { name, example, read: Some(read), list: None }
}

const fn policy(name: &'static str, example: &'static str, read: Option<Read>, list: &'static List) -> Opt {
    Opt { name, example, read, list: Some(list) }
}

const PRIORITIES: [&str; 4] = ["P0", "P1", "P2", "P3"];
pub(crate) const DAY: u64 = 24 * 60 * 60 * 1000;
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 60 * 60_000), ("d", DAY)];

/// The value of an option, as written.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) option: &'a Opt,
    pub(crate) expr: &'a Expr,
    pub(crate) krate: &'a TokenStream,
}

impl Value<'_> {
    pub(crate) fn string(&self) -> Result<&LitStr> {
        match self.expr {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text),
            _ => Err(self.wrong("takes a string")),
        }
    }

    /// The milliseconds of a duration.
    pub(crate) fn duration(&self, longest: u64) -> Result<u64> {
        let text = self.string()?;
        duration(&text.value(), longest).map_err(|why| Error::new_spanned(text, why))
    }

    pub(crate) fn millis(&self, millis: u64) -> TokenStream {
        let krate = self.krate;
        quote!(#krate::__private::Duration::from_millis(#millis))
    }

    /// A whole number within bounds.
    pub(crate) fn whole<T: FromStr<Err: Display> + PartialOrd + Display>(
        &self,
        bounds: &RangeInclusive<T>,
    ) -> Result<T> {
        let number = match self.expr {
            Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
            _ => None,
        };
        let (least, most) = (bounds.start(), bounds.end());
        let good = number.filter(|number| bounds.contains(number));
        good.ok_or_else(|| self.wrong(&format!("takes a whole number from {least} to {most}")))
    }

    /// What is said to a word which is none of those known.
    pub(crate) fn choose(&self, written: &str, what: &str, known: &str) -> Error {
        Error::new_spanned(self.expr, format!("`{written}` is not {what}; choose one of {known}"))
    }

    pub(crate) fn wrong(&self, what: &str) -> Error {
        Error::new_spanned(self.expr, format!("`{}` {what}: {}", self.option.name, self.option.usage()))
    }
}

/// The list of an option, each entry of which is known and given once.
pub(crate) struct Entries<'a> {
    /// The name of the option, where it is written.
    pub(crate) key: &'a Ident,
    pub(crate) krate: &'a TokenStream,
    pub(crate) values: Vec<Value<'a>>,
    /// The calls of those which are good.
    pub(crate) calls: TokenStream,
}

impl<'a> Entries<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().find(|value| value.option.name == name)
    }
}

fn queue(value: &Value<'_>) -> Result<TokenStream> {
    let name = value.string()?;
    check_name(name, "queue name")?;
    Ok(name.to_token_stream())
}

fn priority(value: &Value<'_>) -> Result<TokenStream> {
    if value.string().is_ok_and(|text| PRIORITIES.contains(&text.value().as_str())) {
        return Err(value.wrong("is written without quotes"));
    }
    let name = match value.expr {
        Expr::Path(path) => path.path.get_ident().filter(|name| PRIORITIES.iter().any(|known| name == known)),
        _ => None,
    };
    let Some(name) = name else {
        let written = value.expr.to_token_stream().to_string();
        return Err(value.choose(&written, "a priority", &PRIORITIES.join(", ")));
    };
    let krate = value.krate;
    Ok(quote!(#krate::__private::Priority::#name))
}

fn retries(value: &Value<'_>) -> Result<TokenStream> {
    let number: u8 = value.whole(&(0..=255))?;
    Ok(quote!(#number))
}

fn timeout(value: &Value<'_>) -> Result<TokenStream> {
    value.duration(7 * DAY).map(|millis| value.millis(millis))
}

fn cancel_grace(value: &Value<'_>) -> Result<TokenStream> {
    // None at all is a fair one here.
    let millis = match value.string()?.value().as_str() {
        "0s" | "0ms" => 0,
        _ => value.duration(10 * 60_000)?,
    };
    Ok(value.millis(millis))
}

fn expires(value: &Value<'_>) -> Result<TokenStream> {
    value.duration(366 * DAY).map(|millis| value.millis(millis))
}

fn no_retry(value: &Value<'_>) -> Result<TokenStream> {
    let Expr::Array(array) = value.expr else { return Err(value.wrong("takes an array of error types")) };
    if array.elems.is_empty() {
        return Err(value.wrong("names no error type"));
    }
    let mut mistakes = Mistakes::default();
    let krate = value.krate;
    let one = |expr| match bare(expr) {
        Expr::Path(path) => Ok(quote_spanned!(path.span()=> #krate::__private::NoRetry::of::<#path>())),
        other => Err(Error::new_spanned(other, "`no_retry` takes the names of error types: no_retry = [BadSha]")),
    };
    let types: Vec<_> = array.elems.iter().filter_map(|expr| mistakes.check(one(expr))).collect();
    mistakes.or(quote!(::std::vec![#(#types),*]))
}

fn blocking(value: &Value<'_>) -> Result<TokenStream> {
    match value.expr {
        Expr::Lit(ExprLit { lit: Lit::Bool(yes), .. }) => Ok(yes.to_token_stream()),
        _ => Err(value.wrong("takes true or false")),
    }
}

fn krate(value: &Value<'_>) -> Result<TokenStream> {
    let path = value.string().and_then(|text| text.parse_with(Path::parse_mod_style));
    path.map(Path::into_token_stream).map_err(|_| value.wrong("takes the path of the worker crate"))
}

fn backoff(value: &Value<'_>) -> Result<TokenStream> {
    let literal = value.string()?;
    let text = literal.value();
    let wrong = |why: String| Error::new_spanned(literal, why);
    let delay = |text: &str| duration(text, 30 * DAY).map_err(wrong);
    let (shape, inner) = text.strip_suffix(')').and_then(|text| text.split_once('(')).unwrap_or_default();
    let delays: Vec<_> = inner.split(',').map(str::trim).collect();
    let krate = value.krate;
    match (shape, delays.as_slice()) {
        ("exp", [first, longest]) => {
            let (base, max) = (delay(first)?, delay(longest)?);
            if base > max {
                return Err(wrong(format!(
                    "the first delay, {first}, is longer than the longest, {longest}; write \"exp(BASE, MAX)\""
                )));
            }
            let (base, max) = (value.millis(base), value.millis(max));
            Ok(quote!(#krate::__private::Backoff::exponential(#base, #max)))
        }
        ("fixed", [every]) => {
            let delay = value.millis(delay(every)?);
            Ok(quote!(#krate::__private::Backoff::fixed(#delay)))
        }
        _ => Err(wrong(format!(
            "`{text}` is not a backoff; write \"exp(BASE, MAX)\", as in \"exp(2s, 10m)\", or \"fixed(DELAY)\", \
             as in \"fixed(30s)\""
        ))),
    }
}

/// Reads a duration into milliseconds: more than none, and not more than `longest`.
pub(crate) fn duration(text: &str, longest: u64) -> std::result::Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit).filter(|_| digits > 0);
    let Some((_, unit)) = unit else {
        return Err(format!("`{text}` is not a duration; write a number and a unit: 250ms, 2s, 15m, 1h, 1d"));
    };
    // Digits only, so the one thing that may be wrong with the number is its size.
    match number.parse().ok().and_then(|number: u64| number.checked_mul(*unit)) {
        Some(0) => Err(format!("`{text}` is no time at all; at least 1ms")),
        Some(millis) if millis <= longest => Ok(millis),
        _ if longest < DAY => Err(format!("`{text}` is too long; at most {}m", longest / 60_000)),
        _ => Err(format!("`{text}` is too long; at most {}d", longest / DAY)),
    }
}

/// Checks the name of a task type, a queue or a group.
pub(crate) fn check_name(literal: &LitStr, what: &str) -> Result<()> {
    let name = literal.value();
    let rule = "1 to 64 characters of a-z, 0-9, `_`, `.` and `-`";
    let wrong = wrong_name(&name, what, rule, good_in_name, &suggest_name(&name));
    wrong.map_or(Ok(()), |text| Err(Error::new_spanned(literal, text)))
}

/// What is wrong with a name, if anything.
pub(crate) fn wrong_name(name: &str, what: &str, rule: &str, good: fn(char) -> bool, like: &str) -> Option<String> {
    match name.chars().find(|&c| !good(c)) {
        Some(bad) => Some(format!("`{}` is not allowed in a {what}: {rule}, such as \"{like}\"", bad.escape_debug())),
        None if name.is_empty() => Some(format!("this {what} is empty: {rule}")),
        None if name.len() > 64 => Some(format!("this {what} has {} characters: {rule}", name.len())),
        None => None,
    }
}

fn good_in_name(c: char) -> bool {
    matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-')
}

/// The good name nearest to the given one.
pub(crate) fn suggest_name(name: &str) -> String {
    let name = name.to_lowercase().replace(|c| !good_in_name(c), "_");
    match name.trim_matches('_') {
        "" => "report".to_owned(),
        name => name.chars().take(64).collect(),
    }
}

/// The expression itself, without the invisible group which a macro may have put around it.
pub(crate) fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => bare(&group.expr),
        other => other,
    }
}

/// An option that there is not.
pub(crate) fn unknown(key: &Ident, scope: Scope) -> Error {
    let names = || scope.options().iter().map(|option| option.name);
    let written = key.to_string();
    if let Some(subject) = scope.subject().filter(|subject| subject.meant_by(key)) {
        return subject.unknown(key);
    }
    let owner = match scope {
        Scope::List(owner, _) => format!(" of `{}`", owner.name),
        _ => String::new(),
    };
    let near = names().map(|name| (distance(&written, name), name)).min().filter(|(d, name)| *d <= name.len() / 2);
    let hint = near.map(|(_, name)| format!("; did you mean `{name}`?")).unwrap_or_else(|| ";".to_owned());
    let list = names().collect::<Vec<_>>().join(", ");
    Error::new(key.span(), format!("unknown option `{key}`{owner}{hint} supported options: {list}"))
}

/// How many letters to insert, remove or replace to get from one word to the other; few if one
/// contains the other, as `max_retries` does.
fn distance(from: &str, to: &str) -> usize {
    if from.contains(to) {
        return 1;
    }
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
