//! The options of `#[event_handler]` which no other attribute has.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Error, Expr, LitStr, Result};

use crate::options::{Value, check_name};

pub(crate) fn group(value: &Value<'_>) -> Result<TokenStream> {
    let name = value.string()?;
    check_name(name, "group name")?;
    Ok(name.to_token_stream())
}

/// The group of a handler which says nothing of it, after the name of its function.
pub(crate) fn group_of(name: &LitStr) -> Result<TokenStream> {
    check_name(name, "group name").map_err(|error| {
        let text = format!("the group is named after this function, but {error}; name it with `group = \"…\"`");
        Error::new_spanned(name, text)
    })?;
    Ok(name.to_token_stream())
}

pub(crate) fn at_once(value: &Value<'_>) -> Result<TokenStream> {
    let number: usize = value.whole(&(1..=1024))?;
    Ok(quote!(#number))
}

pub(crate) fn from(value: &Value<'_>) -> Result<TokenStream> {
    let place = match value.string()?.value().as_str() {
        "oldest" => quote!(Oldest),
        "now" => quote!(Now),
        other => return Err(value.choose(other, "a place to begin", "\"oldest\" and \"now\"")),
    };
    let krate = value.krate;
    Ok(quote!(#krate::__private::EventsFrom::#place))
}

/// The path itself: it names the function, and the type next to it.
pub(crate) fn start(value: &Value<'_>) -> Result<TokenStream> {
    match value.expr {
        Expr::Path(path) if path.qself.is_none() => Ok(path.to_token_stream()),
        _ => Err(value.wrong("takes the path of a function under #[task_handler], without quotes or parentheses")),
    }
}
