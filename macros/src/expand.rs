//! `#[task_handler]`: the function as it is, its type, and its registration.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Type;
use syn::spanned::Spanned;

use crate::args::{self, Args};
use crate::function::Function;
use crate::mistakes::Mistakes;
use crate::signature::{self, Shape};

/// Expands `#[task_handler(args)] item`.
pub(crate) fn task_handler(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let otherwise = |word: &str| format!("{}\n\nfound `{word}` instead", signature::expected("name"));
    let Some(function) = mistakes.check(Function::parse(item.clone(), otherwise)) else {
        let errors = mistakes.into_tokens();
        return quote!(#errors #item);
    };
    let args = args::task_handler(args, &function.sig.ident.to_string(), &mut mistakes);
    let shape = signature::check(&function.sig, &mut mistakes);
    let generated = match (&args.kind, &shape.payload, &shape.output) {
        (Some(kind), Some(payload), Some(output)) if mistakes.none() => {
            let parts = Parts { function: &function, args: &args, extractors: &shape.extractors, payload, output };
            let marker = parts.marker();
            let registration = parts.registration(&kind.value());
            quote!(#marker #registration)
        }
        _ => stub(&function, &args, &shape),
    };
    let errors = mistakes.into_tokens();
    quote!(#errors #item #generated)
}

/// A good handler.
struct Parts<'a> {
    function: &'a Function,
    args: &'a Args,
    payload: &'a Type,
    extractors: &'a [Type],
    output: &'a Type,
}

impl Parts<'_> {
    /// The type which has the name of the function.
    fn marker(&self) -> TokenStream {
        let Parts { payload, output, .. } = self;
        let private = self.args.private(here(payload));
        let args = format_ident!("args", span = Span::mixed_site());
        let body = quote_spanned!(here(payload)=> #private::new_task::<Self>(&#args));
        let private = self.args.private(here(output));
        let with = With {
            generics: TokenStream::new(),
            parameter: quote!(#args: #payload),
            task: quote_spanned!(here(output)=> #private::NewTask<#output>),
            body,
        };
        marker(self.function, &with)
    }

    /// What the worker finds at run time.
    fn registration(&self, kind: &str) -> TokenStream {
        let Parts { payload, output, .. } = self;
        let private = self.args.private(Span::call_site());
        let name = &self.function.sig.ident;
        let cfgs = self.function.cfgs();
        let types = [
            quote_spanned!(here(payload)=> type Args = #payload;),
            quote_spanned!(here(output)=> type Output = #output;),
        ];
        let spec = self.spec(kind);
        let call = self.call();
        quote! {
            #(#cfgs)*
            const _: () = {
                #[automatically_derived]
                impl #private::TypedHandler for #name { #(#types)* }
                #[automatically_derived]
                #[allow(deprecated)]
                #[#private::async_trait]
                impl #private::TaskHandler for #name { #spec #call }
                #private::inventory::submit! {
                    #private::Registration::new(
                        || ::std::boxed::Box::new(#name {}),
                        ::core::file!(),
                        ::core::line!(),
                    )
                }
            };
        }
    }

    fn spec(&self, kind: &str) -> TokenStream {
        let private = self.args.private(Span::call_site());
        let spec = local("spec");
        let settings = self.args.settings.iter().map(|(name, value)| {
            let field = format_ident!("{name}");
            quote!(#spec.#field = ::core::option::Option::Some(#value);)
        });
        let doc = Some(self.function.doc()).filter(|doc| !doc.is_empty());
        let doc = doc.map(|doc| quote!(#spec.doc = #doc;));
        let code = self.function.fingerprint();
        let needs = self.extractors.iter().map(|ty| {
            let private = self.args.private(here(ty));
            quote_spanned!(here(ty)=> <#ty as #private::FromContext>::needs(&mut #spec.needs);)
        });
        quote! {
            fn spec(&self) -> #private::HandlerSpec {
                #[allow(unused_mut)]
                let mut #spec = #private::HandlerSpec::new(#kind);
                #(#settings)*
                #doc
                #spec.code = #code;
                #(#needs)*
                #spec
            }
        }
    }

    /// Each step is placed where the mistake is which keeps it from compiling.
    fn call(&self) -> TokenStream {
        let Parts { payload, output, .. } = self;
        let name = &self.function.sig.ident;
        let [ctx, args, out] = ["ctx", "args", "out"].map(local);
        let private = self.args.private(here(payload));
        let read = quote_spanned! {here(payload)=>
            let #args: #payload = #private::payload(&#ctx)?;
        };
        let values: Vec<_> = (0..self.extractors.len()).map(|i| local(&i.to_string())).collect();
        let extract = self.extractors.iter().zip(&values).map(|(ty, value)| {
            let private = self.args.private(here(ty));
            quote_spanned! {here(ty)=>
                let #value = <#ty as #private::FromContext>::from_context(&#ctx)?;
            }
        });
        let run = quote_spanned! {Span::call_site().located_at(self.function.failure())=>
            let #out: #output = #name(#args #(, #values)*).await?;
        };
        let private = self.args.private(here(output));
        let write = quote_spanned!(here(output)=> #private::output(&#out));
        let private = self.args.private(here(name));
        quote_spanned! {here(name)=>
            async fn call(
                &self,
                #ctx: #private::TaskContext,
            ) -> ::core::result::Result<::std::vec::Vec<u8>, #private::TaskError> {
                #read
                #(#extract)*
                #run
                #write
            }
        }
    }
}

/// What other code may refer to when there is a mistake, lest it shows further ones.
fn stub(function: &Function, args: &Args, shape: &Shape) -> TokenStream {
    if shape.method {
        return TokenStream::new();
    }
    let (generics, parameter) = match &shape.payload {
        Some(payload) => (TokenStream::new(), quote!(_: #payload)),
        None => (quote!(<__Payload>), quote!(_: __Payload)),
    };
    let private = args.private(Span::call_site());
    let output = shape.output.iter();
    let task = quote!(#private::NewTask<#(#output)*>);
    let body = quote!(::core::unimplemented!());
    marker(function, &With { generics, parameter, task, body })
}

/// The one function of the type.
struct With {
    generics: TokenStream,
    parameter: TokenStream,
    task: TokenStream,
    body: TokenStream,
}

fn marker(function: &Function, with: &With) -> TokenStream {
    let Function { vis, sig, .. } = function;
    let With { generics, parameter, task, body } = with;
    let cfgs: Vec<_> = function.cfgs().collect();
    let name = &sig.ident;
    let doc = format!("The tasks which the function of this name handles: `{name}::with(args)` is one.");
    quote_spanned! {here(name)=>
        #(#cfgs)*
        #[doc = #doc]
        #[allow(non_camel_case_types, unreachable_pub)]
        #[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy, ::core::default::Default)]
        #vis struct #name {}

        #(#cfgs)*
        #[allow(dead_code, private_interfaces, unreachable_pub)]
        impl #name {
            /// A task for this handler; enqueue it with `Orchestrator::enqueue`.
            #vis fn with #generics (#parameter) -> #task { #body }
        }
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
