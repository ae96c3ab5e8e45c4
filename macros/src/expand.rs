//! The function under an attribute as it is, its type, and its registration.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::Type;
use syn::spanned::Spanned;

use crate::args::Args;
use crate::function::Function;
use crate::mistakes::Mistakes;
use crate::signature::Rules;

mod event;
mod task;

pub(crate) use event::event_handler;
pub(crate) use task::task_handler;

/// Expands an attribute by what `generate` makes of the function, or by what is wrong with it.
fn expand(
    item: &TokenStream,
    rules: &Rules,
    generate: impl FnOnce(&Function, &mut Mistakes) -> TokenStream,
) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let otherwise = |word: &str| format!("{}\n\nfound `{word}` instead", rules.expected("name"));
    let function = mistakes.check(Function::parse(item.clone(), otherwise));
    // It takes what the worker hands over, whether it consumes it or not; of async functions the lint does not speak.
    let plain = function.as_ref().is_some_and(|function| function.sig.asyncness.is_none());
    let allow = plain.then(|| quote!(#[allow(clippy::needless_pass_by_value)]));
    let generated = function.map(|function| generate(&function, &mut mistakes));
    let errors = mistakes.into_tokens();
    quote!(#errors #allow #item #generated)
}

/// The type which has the name of the function.
fn marker(function: &Function, doc: &str) -> TokenStream {
    let Function { vis, sig, .. } = function;
    let cfgs = function.cfgs();
    let name = &sig.ident;
    quote_spanned! {here(name)=>
        #(#cfgs)*
        #[doc = #doc]
        #[allow(non_camel_case_types, unreachable_pub)]
        #[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy, ::core::default::Default)]
        #vis struct #name {}
    }
}

/// What the worker finds at run time: the function's type is a handler by these items, and is registered as one.
struct Registration<'a> {
    function: &'a Function,
    private: TokenStream,
    /// What else is implemented.
    others: TokenStream,
    handler: &'a str,
    items: TokenStream,
    registration: &'a str,
}

impl ToTokens for Registration<'_> {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Registration { function, private, others, items, .. } = self;
        let (name, cfgs) = (&function.sig.ident, function.cfgs());
        let [handler, registration] = [self.handler, self.registration].map(|name| format_ident!("{name}"));
        tokens.extend(quote! {
            #(#cfgs)*
            const _: () = {
                #others
                #[automatically_derived]
                #[allow(deprecated)]
                #[#private::async_trait]
                impl #private::#handler for #name { #items }
                #private::inventory::submit! {
                    #private::#registration::new(
                        || ::std::boxed::Box::new(#name {}),
                        ::core::file!(),
                        ::core::line!(),
                    )
                }
            };
        });
    }
}

/// Sets the fields of the specification: the options given, and what the author says.
fn settings(function: &Function, args: &Args) -> TokenStream {
    let spec = local("spec");
    let settings = args.settings.iter().map(|(name, value)| {
        let field = format_ident!("{name}");
        quote!(#spec.#field = ::core::option::Option::Some(#value);)
    });
    let doc = Some(function.doc()).filter(|doc| !doc.is_empty());
    let doc = doc.map(|doc| quote!(#spec.doc = #doc;));
    quote!(#(#settings)* #doc)
}

/// The parameters after the first one, each made by the function of a trait.
struct Extractors<'a> {
    types: &'a [Type],
    args: &'a Args,
    /// The trait and its function.
    from: [&'a str; 2],
}

impl Extractors<'_> {
    /// Adds what they need to the specification.
    fn needs(&self) -> TokenStream {
        let spec = local("spec");
        let from = format_ident!("{}", self.from[0]);
        let needs = self.types.iter().map(|ty| {
            let private = self.args.private(here(ty));
            quote_spanned!(here(ty)=> <#ty as #private::#from>::needs(&mut #spec.needs);)
        });
        needs.collect()
    }

    fn values(&self) -> Vec<Ident> {
        (0..self.types.len()).map(|i| local(&i.to_string())).collect()
    }

    /// Makes the values. Each is placed where the mistake is which keeps it from compiling.
    fn extract(&self) -> TokenStream {
        let ctx = local("ctx");
        let [from, function] = self.from.map(|name| format_ident!("{name}"));
        let extract = self.types.iter().zip(self.values()).map(|(ty, value)| {
            let private = self.args.private(here(ty));
            quote_spanned!(here(ty)=> let #value = <#ty as #private::#from>::#function(&#ctx)?;)
        });
        extract.collect()
    }
}

/// A name which no code but the generated one can see.
fn local(name: &str) -> Ident {
    format_ident!("__{name}", span = Span::mixed_site())
}

/// The place of the given tokens, for errors to point to, but still the names of the macro.
fn here(tokens: &impl Spanned) -> Span {
    Span::call_site().located_at(tokens.span())
}
