//! `#[payload]`: the derives of a type which tasks carry.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::quote;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Path, Result, Token, Visibility};

use crate::args;
use crate::mistakes::Mistakes;

/// Expands `#[payload(args)] item`.
pub(crate) fn payload(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let krate = args::plain(args, &mut mistakes).krate;
    let attrs = mistakes.check(check.parse2(item.clone()));
    let errors = mistakes.into_tokens();
    let Some(attrs) = attrs else {
        return quote!(#errors #item);
    };

    let derived: Vec<Ident> = attrs.iter().flat_map(derived).collect();
    let missing = |name: &str| derived.iter().all(|there| there != name);
    let serde = quote!(#krate::__private::serde);
    let wanted = [
        ("Debug", quote!(::core::fmt::Debug)),
        ("Clone", quote!(::core::clone::Clone)),
        ("Serialize", quote!(#serde::Serialize)),
        ("Deserialize", quote!(#serde::Deserialize)),
    ];
    let wanted = wanted.into_iter().filter(|(name, _)| missing(name)).map(|(_, path)| path);
    // Where serde is not ours, neither are the paths in the code it derives.
    let path = serde.to_string().replace(' ', "");
    let ours = (missing("Serialize") && missing("Deserialize")).then(|| quote!(#[serde(crate = #path)]));
    quote!(#errors #[derive(#(#wanted),*)] #ours #item)
}

/// The attributes of the struct or enum.
fn check(input: ParseStream<'_>) -> Result<Vec<Attribute>> {
    let attrs = input.call(Attribute::parse_outer)?;
    input.parse::<Visibility>()?;
    let word: TokenTree = input.parse()?;
    input.parse::<TokenStream>()?;
    match word.to_string().as_str() {
        "struct" | "enum" => Ok(attrs),
        other => Err(Error::new_spanned(&word, format!("#[payload] goes on a struct or an enum, not on `{other}`"))),
    }
}

/// The last names in `#[derive(…)]`.
fn derived(attr: &Attribute) -> Vec<Ident> {
    let paths = match attr.path().is_ident("derive") {
        true => attr.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated).unwrap_or_default(),
        false => Punctuated::new(),
    };
    paths.iter().filter_map(|path| Some(path.segments.last()?.ident.clone())).collect()
}
