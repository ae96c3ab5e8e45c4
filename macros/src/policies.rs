//! The options of `#[task_handler]` which are lists: `approval`, `sla` and `unique`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Error, Expr, ExprLit, Lit, LitStr, Result};

use crate::mistakes::Mistakes;
use crate::options::{DAY, Entries, List, Opt, Value, bare, duration, opt, wrong_name};

const APPROVAL_OPTIONS: &[Opt] = &[
    opt("unless", "\"args.env == 'dev'\"", unless),
    opt("by", "\"role:sre\"", by),
    opt("quorum", "2", quorum),
    opt("expires", "\"4h\"", expires),
    opt("remind", "\"30m\"", remind),
    opt("escalate", "\"1h, role:lead\"", escalate),
];

pub(crate) const APPROVAL: List = List { options: APPROVAL_OPTIONS, join: approval };

const SLA_OPTIONS: &[Opt] = &[
    // First, because the rest is called on it.
    opt("target", "\"30m\"", target),
    opt("warn", "0.8", warn),
    opt("pause", "\"human\"", pause),
    opt("on_violation", "\"raise\"", on_violation),
    opt("hours", "\"mon-fri 09:00-17:00 Europe/Berlin\"", hours),
];

pub(crate) const SLA: List = List { options: SLA_OPTIONS, join: sla };

const UNIQUE_OPTIONS: &[Opt] = &[
    // First, because the rest is called on it.
    opt("by", "[\"args.repo\", \"args.issue\"]", unique_by),
    opt("until", "\"started\"", until),
];

pub(crate) const UNIQUE: List = List { options: UNIQUE_OPTIONS, join: unique };

/// The longest time to wait for an approval.
const LONGEST_WAIT: u64 = 30 * DAY;

fn approval(list: &Entries<'_>) -> Result<TokenStream> {
    let mut mistakes = Mistakes::default();
    // A wait which cannot be read is reported by its own reader.
    let expires = list.get("expires").and_then(|value| value.duration(LONGEST_WAIT).ok());
    let remind = list.get("remind").and_then(|value| Some((value, value.duration(LONGEST_WAIT).ok()?)));
    let escalate = list.get("escalate").and_then(|value| Some((value, escalation(value).ok()?.0)));
    for (value, wait) in [remind, escalate].into_iter().flatten() {
        if expires.is_some_and(|expires| expires <= wait) {
            let text = format!("`{}` has to come before `expires`; give it a shorter time", value.option.name);
            mistakes.add(Error::new_spanned(value.expr, text));
        }
    }
    let Entries { krate, calls, .. } = list;
    mistakes.or(quote!(#krate::__private::Gate::new() #calls))
}

fn unless(value: &Value<'_>) -> Result<TokenStream> {
    let condition = text(value)?;
    Ok(quote!(.unless(#condition)))
}

/// The entries of an array, or a single one.
fn strings<'a>(value: &'a Value<'_>) -> Result<Vec<&'a Expr>> {
    match value.expr {
        Expr::Array(array) => Ok(array.elems.iter().collect()),
        Expr::Lit(ExprLit { lit: Lit::Str(_), .. }) => Ok(vec![value.expr]),
        _ => Err(value.wrong("takes a string or an array of strings")),
    }
}

fn by(value: &Value<'_>) -> Result<TokenStream> {
    let array = strings(value)?;
    if array.is_empty() {
        return Err(value.wrong("names nobody"));
    }
    let mut mistakes = Mistakes::default();
    let names = array.into_iter().filter_map(|expr| {
        let one = Value { expr: bare(expr), ..*value };
        let name = one.string().and_then(|name| who(&name.value(), name.span()));
        mistakes.check(name)
    });
    let calls = names.map(|name| quote!(.by(#name))).collect();
    mistakes.or(calls)
}

fn quorum(value: &Value<'_>) -> Result<TokenStream> {
    let number: u8 = value.whole(&(1..=20))?;
    Ok(quote!(.quorum(#number)))
}

fn expires(value: &Value<'_>) -> Result<TokenStream> {
    let wait = value.millis(value.duration(LONGEST_WAIT)?);
    Ok(quote!(.expires(#wait)))
}

fn remind(value: &Value<'_>) -> Result<TokenStream> {
    let wait = value.millis(value.duration(LONGEST_WAIT)?);
    Ok(quote!(.remind(#wait)))
}

fn escalate(value: &Value<'_>) -> Result<TokenStream> {
    let (wait, who) = escalation(value)?;
    let wait = value.millis(wait);
    Ok(quote!(.escalate(#wait, #who)))
}

/// Reads `DURATION, WHO`.
fn escalation(value: &Value<'_>) -> Result<(u64, LitStr)> {
    let literal = value.string()?;
    let text = literal.value();
    let Some((wait, name)) = text.split_once(',') else {
        return Err(value.wrong("takes a duration and a user or role"));
    };
    let wait = duration(wait.trim(), LONGEST_WAIT).map_err(|why| Error::new_spanned(literal, why))?;
    Ok((wait, who(name.trim(), literal.span())?))
}

fn unique(list: &Entries<'_>) -> Result<TokenStream> {
    match list.get("by") {
        Some(_) => Ok(list.calls.clone()),
        None => Err(Error::new(list.key.span(), "`unique` says not by what: unique(by = \"args.repo\")")),
    }
}

fn unique_by(value: &Value<'_>) -> Result<TokenStream> {
    let array = strings(value)?;
    if array.is_empty() || array.len() > 8 {
        return Err(value.wrong("takes 1 to 8 paths"));
    }
    let mut mistakes = Mistakes::default();
    let paths = array.into_iter().filter_map(|expr| {
        let one = Value { expr: bare(expr), ..*value };
        mistakes.check(one.string().cloned().and_then(path))
    });
    let paths: Vec<_> = paths.collect();
    let krate = value.krate;
    mistakes.or(quote!(#krate::__private::Unique::by([#(#paths),*])))
}

/// Checks a path: where a value is found in a task.
fn path(literal: LitStr) -> Result<LitStr> {
    let text = literal.value();
    let mut names = text.split('.');
    let first = names.next().unwrap_or_default();
    let rest: Vec<_> = names.collect();
    let good =
        |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    match first {
        "args" | "payload" | "metadata" if !rest.is_empty() && rest.iter().all(good) => Ok(literal),
        "type" | "priority" | "source" if rest.is_empty() => Ok(literal),
        _ => Err(Error::new_spanned(
            &literal,
            format!(
                "`{text}` is no path; write args.NAME or metadata.NAME, with more names behind dots, type, priority or source"
            ),
        )),
    }
}

fn until(value: &Value<'_>) -> Result<TokenStream> {
    let until = match value.string()?.value().as_str() {
        "started" => quote!(Started),
        "done" => quote!(Done),
        other => return Err(value.choose(other, "an end of being unique", "\"started\" and \"done\"")),
    };
    let krate = value.krate;
    Ok(quote!(.until(#krate::__private::UniqueUntil::#until)))
}

fn sla(list: &Entries<'_>) -> Result<TokenStream> {
    match list.get("target") {
        Some(_) => Ok(list.calls.clone()),
        None => Err(Error::new(list.key.span(), "`sla` has no target: sla(target = \"30m\")")),
    }
}

pub(crate) fn target(value: &Value<'_>) -> Result<TokenStream> {
    let target = value.millis(value.duration(366 * DAY)?);
    let krate = value.krate;
    Ok(quote!(#krate::__private::SlaTerms::new(#target)))
}

fn warn(value: &Value<'_>) -> Result<TokenStream> {
    let share = match value.expr {
        Expr::Lit(ExprLit { lit: Lit::Float(share), .. }) => share.base10_parse::<f64>().ok(),
        Expr::Lit(ExprLit { lit: Lit::Int(percent), .. }) => {
            let percent = percent.base10_parse::<u8>().ok().filter(|percent| (2..100).contains(percent));
            let hint = percent.map(|percent| format!("; {percent}% of it is {}", f64::from(percent) / 100.0));
            let what = format!("is a share of the target, between 0.0 and 1.0{}", hint.unwrap_or_default());
            return Err(value.wrong(&what));
        }
        _ => None,
    };
    let share = share.filter(|share| *share > 0.0 && *share < 1.0);
    let share = share.ok_or_else(|| value.wrong("takes a share of the target, between 0.0 and 1.0"))?;
    Ok(quote!(.warn(#share)))
}

fn pause(value: &Value<'_>) -> Result<TokenStream> {
    let pause = match value.string()?.value().as_str() {
        "human" => true,
        "never" => false,
        other => return Err(value.choose(other, "a reason to pause", "\"human\" and \"never\"")),
    };
    Ok(quote!(.pause(#pause)))
}

fn on_violation(value: &Value<'_>) -> Result<TokenStream> {
    let literal = value.string()?;
    let text = literal.value();
    let reaction = match (text.as_str(), text.strip_prefix("escalate:")) {
        ("announce", _) => quote!(Announce),
        ("raise", _) => quote!(Raise),
        ("cancel", _) => quote!(Cancel),
        (_, Some(name)) => {
            let who = who(name, literal.span())?;
            quote!(Escalate(::core::convert::Into::into(#who)))
        }
        (other, None) => {
            let known = "\"announce\", \"raise\", \"cancel\" and \"escalate:WHO\"";
            return Err(value.choose(other, "a reaction to a violation", known));
        }
    };
    let krate = value.krate;
    Ok(quote!(.on_violation(#krate::__private::OnViolation::#reaction)))
}

fn hours(value: &Value<'_>) -> Result<TokenStream> {
    let hours = text(value)?;
    Ok(quote!(.hours(#hours)))
}

/// A text whose syntax is checked when the worker starts.
fn text<'a>(value: &'a Value<'_>) -> Result<&'a LitStr> {
    let text = value.string()?;
    if text.value().trim().is_empty() { Err(value.wrong("is empty")) } else { Ok(text) }
}

/// Checks the name of a user or a role.
fn who(name: &str, place: Span) -> Result<LitStr> {
    let rule = "1 to 64 characters of a-z, A-Z, 0-9, `_`, `.`, `-`, `@` and `:`";
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-@:".contains(c);
    match wrong_name(name, "user or role", rule, good, "role:sre") {
        Some(text) => Err(Error::new(place, text)),
        None => Ok(LitStr::new(name, place)),
    }
}
