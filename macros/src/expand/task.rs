//! `#[task_handler]`

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::Type;

use super::{Extractors, Registration, expand, here, local, marker, settings};
use crate::args::{self, Args};
use crate::function::Function;
use crate::signature::{self, Shape};

/// Expands `#[task_handler(args)] item`.
pub(crate) fn task_handler(args: TokenStream, item: &TokenStream) -> TokenStream {
    expand(item, &signature::TASK, |function, mistakes| {
        let args = args::task_handler(args, &function.sig.ident.to_string(), mistakes);
        crate::schedules::check(&args, mistakes);
        let blocking = args.is_true("blocking").unwrap_or(function.sig.asyncness.is_none());
        let rules = if blocking { &signature::BLOCKING } else { &signature::TASK };
        let shape = rules.check(&function.sig, mistakes);
        match (&args.subject, &shape.first, &shape.output) {
            (Some(kind), Some(payload), Some(output)) if mistakes.none() => {
                let extractors =
                    Extractors { types: &shape.extractors, args: &args, from: ["FromContext", "from_context"] };
                let parts = Parts { function, args: &args, extractors, payload, output };
                let marker = parts.marker();
                let registration = parts.registration(kind);
                quote!(#marker #registration)
            }
            _ => stub(function, &args, &shape),
        }
    })
}

/// A good handler.
struct Parts<'a> {
    function: &'a Function,
    args: &'a Args,
    payload: &'a Type,
    extractors: Extractors<'a>,
    output: &'a Type,
}

impl Parts<'_> {
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
        marker_with(self.function, &with)
    }

    fn registration(&self, kind: &str) -> TokenStream {
        let Parts { function, payload, output, .. } = self;
        let private = self.args.private(Span::call_site());
        let name = &function.sig.ident;
        let types = [
            quote_spanned!(here(payload)=> type Args = #payload;),
            quote_spanned!(here(output)=> type Output = #output;),
        ];
        let (spec, call) = (self.spec(kind), self.call());
        let registration = Registration {
            function,
            others: quote! {
                #[automatically_derived]
                impl #private::TypedHandler for #name { #(#types)* }
            },
            private,
            handler: "TaskHandler",
            items: quote!(#spec #call),
            registration: "Registration",
        };
        registration.into_token_stream()
    }

    fn spec(&self, kind: &str) -> TokenStream {
        let private = self.args.private(Span::call_site());
        let spec = local("spec");
        let settings = settings(self.function, self.args);
        let code = self.function.fingerprint();
        let needs = self.extractors.needs();
        quote! {
            fn spec(&self) -> #private::HandlerSpec {
                #[allow(unused_mut)]
                let mut #spec = #private::HandlerSpec::new(#kind);
                #settings
                #spec.code = #code;
                #needs
                #spec
            }
        }
    }

    /// Each step is placed where the mistake is which keeps it from compiling.
    fn call(&self) -> TokenStream {
        let Parts { payload, output, extractors, .. } = self;
        let name = &self.function.sig.ident;
        let [ctx, args, out] = ["ctx", "args", "out"].map(local);
        let private = self.args.private(here(payload));
        let read = quote_spanned! {here(payload)=>
            let #args: #payload = #private::payload(&#ctx)?;
        };
        let (extract, values) = (extractors.extract(), extractors.values());
        let blocking = self.function.sig.asyncness.is_none();
        let wait = (!blocking).then(|| quote!(.await));
        let run = quote_spanned! {Span::call_site().located_at(self.function.failure())=>
            let #out: #output = #name(#args #(, #values)*)#wait?;
        };
        let private = self.args.private(here(output));
        let write = quote_spanned!(here(output)=> #private::output(&#out));
        let private = self.args.private(here(name));
        let steps = quote!(#read #extract #run #write);
        let body = match blocking {
            true => quote_spanned!(here(name)=> #private::blocking(#ctx, |#ctx| { #steps }).await),
            false => steps,
        };
        quote_spanned! {here(name)=>
            async fn call(
                &self,
                #ctx: #private::TaskContext,
            ) -> ::core::result::Result<#private::Output, #private::TaskError> {
                #body
            }
        }
    }
}

/// What other code may refer to when there is a mistake, lest it shows further ones.
fn stub(function: &Function, args: &Args, shape: &Shape) -> TokenStream {
    if shape.method {
        return TokenStream::new();
    }
    let (generics, parameter) = match &shape.first {
        Some(payload) => (TokenStream::new(), quote!(_: #payload)),
        None => (quote!(<__Payload>), quote!(_: __Payload)),
    };
    let private = args.private(Span::call_site());
    let output = shape.output.iter();
    let task = quote!(#private::NewTask<#(#output)*>);
    let body = quote!(::core::unimplemented!());
    marker_with(function, &With { generics, parameter, task, body })
}

/// The one function of the type.
struct With {
    generics: TokenStream,
    parameter: TokenStream,
    task: TokenStream,
    body: TokenStream,
}

fn marker_with(function: &Function, with: &With) -> TokenStream {
    let Function { vis, sig, .. } = function;
    let With { generics, parameter, task, body } = with;
    let cfgs = function.cfgs();
    let name = &sig.ident;
    let doc = format!("The tasks which the function of this name handles: `{name}::with(args)` is one.");
    let marker = marker(function, &doc);
    quote_spanned! {here(name)=>
        #marker

        #(#cfgs)*
        #[allow(dead_code, private_interfaces, unreachable_pub)]
        impl #name {
            /// A task for this handler; enqueue it with `Orchestrator::enqueue`.
            #vis fn with #generics (#parameter) -> #task { #body }
        }
    }
}
