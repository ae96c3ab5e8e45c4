//! The options of `#[task_handler]` that say when a handler runs by itself.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Error, Result};

use crate::args::Args;
use crate::cron_syntax;
use crate::mistakes::Mistakes;
use crate::options::Value;

/// What goes with `cron` alone.
const POLICIES: [&str; 3] = ["tz", "overlap", "catch_up"];

/// Stands in the handler's own implementation, whose payload has to have a default.
pub(crate) fn cron(value: &Value<'_>) -> Result<TokenStream> {
    let text = value.string()?;
    cron_syntax::parse(&text.value()).map_err(|why| Error::new_spanned(text, why))?;
    let krate = value.krate;
    let place = Span::call_site().located_at(text.span());
    Ok(quote_spanned!(place=> #krate::__private::Comes::new::<Self>(#text)))
}

/// Which zones there are is known when the worker starts.
pub(crate) fn tz(value: &Value<'_>) -> Result<TokenStream> {
    let text = value.string()?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"/_+-".contains(&b);
    match text.value() {
        zone if !zone.is_empty() && zone.len() <= 64 && zone.bytes().all(fits) => Ok(text.to_token_stream()),
        zone => Err(Error::new_spanned(
            text,
            format!("`{}` is no time zone; write one such as \"UTC\" or \"Europe/Berlin\"", zone.escape_debug()),
        )),
    }
}

pub(crate) fn overlap(value: &Value<'_>) -> Result<TokenStream> {
    let word = match value.string()?.value().as_str() {
        "skip" => quote!(Skip),
        "queue" => quote!(Queue),
        "replace" => quote!(Replace),
        "allow" => quote!(Allow),
        other => return Err(value.choose(other, "known here", "\"skip\", \"queue\", \"replace\" and \"allow\"")),
    };
    let krate = value.krate;
    Ok(quote!(#krate::__private::Overlap::#word))
}

pub(crate) fn catch_up(value: &Value<'_>) -> Result<TokenStream> {
    let word = match value.string()?.value().as_str() {
        "latest" => quote!(Latest),
        "all" => quote!(All),
        "skip" => quote!(Skip),
        other => return Err(value.choose(other, "known here", "\"latest\", \"all\" and \"skip\"")),
    };
    let krate = value.krate;
    Ok(quote!(#krate::__private::CatchUp::#word))
}

/// Refuses what says how a schedule is to be where there is none.
pub(crate) fn check(args: &Args, mistakes: &mut Mistakes) {
    if args.gives("cron") {
        return;
    }
    if let Some(option) = POLICIES.iter().find(|option| args.gives(option)) {
        let text =
            format!("`{option}` goes with `cron`, which says when the handler runs by itself: cron = \"*/5 * * * *\"");
        mistakes.add(Error::new(Span::call_site(), text));
    }
}
