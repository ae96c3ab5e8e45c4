//! `#[event_handler]`

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Type;

use super::{Extractors, Registration, expand, here, local, marker, settings};
use crate::args::{self, Args};
use crate::function::Function;
use crate::signature;

/// Expands `#[event_handler(args)] item`.
pub(crate) fn event_handler(args: TokenStream, item: &TokenStream) -> TokenStream {
    expand(item, &signature::EVENT, |function, mistakes| {
        let mut args = args::event_handler(args, &function.sig.ident, mistakes);
        let rules = if args.gives("start") { &signature::START } else { &signature::EVENT };
        let shape = rules.check(&function.sig, mistakes);
        if shape.method {
            return TokenStream::new();
        }
        let name = &function.sig.ident;
        let doc = format!("The function of this name as a handler of events: `{name}::default()` is it.");
        let marker = marker(function, &doc);
        let (group, start) = (args.take("group"), args.take("start"));
        let registration = match (&args.subject, group, &shape.first, &shape.output) {
            (Some(patterns), Some(group), Some(event), Some(output)) if mistakes.none() => {
                let extractors =
                    Extractors { types: &shape.extractors, args: &args, from: ["FromEvent", "from_event"] };
                Parts { function, args: &args, group, start, event, extractors, output }.registration(patterns)
            }
            _ => TokenStream::new(),
        };
        quote!(#marker #registration)
    })
}

/// A good handler.
struct Parts<'a> {
    function: &'a Function,
    args: &'a Args,
    group: TokenStream,
    /// The handler of the tasks which it starts.
    start: Option<TokenStream>,
    event: &'a Type,
    extractors: Extractors<'a>,
    output: &'a Type,
}

impl Parts<'_> {
    fn registration(&self, patterns: &str) -> TokenStream {
        let (spec, call) = (self.spec(patterns), self.call());
        // So that a wrong path is told of once.
        let start = self.start.as_ref().map(|task| quote_spanned!(here(task)=> type __Start = #task;));
        let registration = Registration {
            function: self.function,
            private: self.args.private(Span::call_site()),
            others: start.unwrap_or_default(),
            handler: "EventHandler",
            items: quote!(#spec #call),
            registration: "EventRegistration",
        };
        registration.into_token_stream()
    }

    fn spec(&self, patterns: &str) -> TokenStream {
        let private = self.args.private(Span::call_site());
        let (spec, group) = (local("spec"), &self.group);
        let settings = settings(self.function, self.args);
        let start = self.start.as_ref().map(|task| {
            let task_spec = local("task");
            let private = self.args.private(here(task));
            quote_spanned! {here(task)=>
                let #task_spec = #private::TaskHandler::spec(&<__Start as ::core::default::Default>::default());
                #spec.start = ::core::option::Option::Some(#task_spec.task_type);
            }
        });
        let needs = self.extractors.needs();
        quote! {
            fn spec(&self) -> #private::EventSpec {
                #[allow(unused_mut)]
                let mut #spec = #private::EventSpec::new(#group, #patterns);
                #settings
                #start
                #needs
                #spec
            }
        }
    }

    /// Each step is placed where the mistake is which keeps it from compiling.
    fn call(&self) -> TokenStream {
        let Parts { event, extractors, .. } = self;
        let name = &self.function.sig.ident;
        let [ctx, ev] = ["ctx", "ev"].map(local);
        let private = self.args.private(here(event));
        let read = quote_spanned!(here(event)=> let #ev: #event = #private::event(&#ctx)?;);
        let extract = extractors.extract();
        let run = self.run();
        let private = self.args.private(here(name));
        quote_spanned! {here(name)=>
            async fn call(
                &self,
                #ctx: #private::EventContext,
            ) -> ::core::result::Result<(), #private::TaskError> {
                #read
                #extract
                #run
            }
        }
    }

    fn run(&self) -> TokenStream {
        let name = &self.function.sig.ident;
        let [ctx, ev] = ["ctx", "ev"].map(local);
        let values = self.extractors.values();
        let wait = self.function.sig.asyncness.map(|_| quote!(.await));
        if self.start.is_none() {
            return quote_spanned! {Span::call_site().located_at(self.function.failure())=>
                #name(#ev #(, #values)*)#wait?;
                ::core::result::Result::Ok(())
            };
        }
        let private = self.args.private(here(self.output));
        quote_spanned! {here(self.output)=>
            #private::start::<__Start>(&#ctx, #name(#ev #(, #values)*)#wait).await
        }
    }
}
