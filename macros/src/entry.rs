//! `#[main]` and `#[test]`: async functions on a runtime.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, FnArg, Signature};

use crate::args;
use crate::function::Function;
use crate::mistakes::Mistakes;

/// What is wrong, and what is right.
fn explain(what: &str) -> String {
    format!("{what}\n\n#[main] goes on a function with the signature:\n\n    async fn main() [-> Result<(), Error>]")
}

/// Expands `#[main(args)] item`.
pub(crate) fn main(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let krate = args::plain(args, &mut mistakes).krate;
    let otherwise = |word: &str| explain(&format!("this is `{word}`, not a function"));
    let Some(Function { attrs, vis, sig, body }) = mistakes.check(Function::parse(item.clone(), otherwise)) else {
        let errors = mistakes.into_tokens();
        return quote!(#errors #item);
    };
    check(&sig, &mut mistakes);
    let ok = mistakes.none();
    let errors = mistakes.into_tokens();
    if !ok {
        // A `main` all the same, lest its absence is one more error.
        return quote!(#errors #[allow(dead_code)] fn main() {});
    }
    let output = &sig.output;
    // The body stays that of an async function, so what the compiler says of it is the same.
    quote! {
        #(#attrs)*
        #vis fn main() #output {
            #sig #body
            #krate::__private::run_main(main())
        }
    }
}

fn check(sig: &Signature, mistakes: &mut Mistakes) {
    if sig.asyncness.is_none() {
        let text = explain("this function is not async: write `async fn`, or remove #[main]");
        mistakes.add(Error::new_spanned(sig.fn_token, text));
    }
    if sig.ident != "main" {
        let text = explain(&format!("this function is named `{}`, not `main`", sig.ident));
        mistakes.add(Error::new(sig.ident.span(), text));
    }
    if !sig.inputs.is_empty() {
        let text = explain("there are no parameters: read the command line with `std::env::args()`");
        mistakes.add(Error::new_spanned(&sig.inputs, text));
    }
    if !sig.generics.params.is_empty() {
        let text = explain("there are no generic parameters");
        mistakes.add(Error::new_spanned(&sig.generics, text));
    }
}

/// What is wrong with a test, and what is right.
fn explain_test(what: &str) -> String {
    format!(
        "{what}\n\n#[test] goes on a function with one of the signatures:\n\n    \
         async fn name(h: Harness) [-> Result<(), Error>]\n    async fn name() [-> Result<(), Error>]"
    )
}

/// Expands `#[test(args)] item`.
pub(crate) fn test(args: TokenStream, item: &TokenStream) -> TokenStream {
    let mut mistakes = Mistakes::default();
    let krate = args::plain(args, &mut mistakes).krate;
    let otherwise = |word: &str| explain_test(&format!("this is `{word}`, not a function"));
    let Some(Function { attrs, vis, sig, body }) = mistakes.check(Function::parse(item.clone(), otherwise)) else {
        let errors = mistakes.into_tokens();
        return quote!(#errors #item);
    };
    check_test(&sig, &mut mistakes);
    let ok = mistakes.none();
    let errors = mistakes.into_tokens();
    if !ok {
        return quote!(#errors);
    }
    let (name, output) = (&sig.ident, &sig.output);
    let run = match sig.inputs.is_empty() {
        true => quote!(#krate::__private::run_test_alone(#name())),
        false => quote!(#krate::__private::run_test(#name)),
    };
    quote! {
        #[::core::prelude::v1::test]
        #(#attrs)*
        #vis fn #name() #output {
            #sig #body
            #run
        }
    }
}

fn check_test(sig: &Signature, mistakes: &mut Mistakes) {
    if sig.asyncness.is_none() {
        let text = explain_test("this function is not async: write `async fn`, or use the plain #[test]");
        mistakes.add(Error::new_spanned(sig.fn_token, text));
    }
    if let Some(second) = sig.inputs.iter().nth(1) {
        mistakes.add(Error::new_spanned(second, explain_test("there is one parameter at most, the harness")));
    }
    if let Some(FnArg::Receiver(receiver)) = sig.inputs.first() {
        mistakes.add(Error::new_spanned(receiver, explain_test("a test is no method")));
    }
    if !sig.generics.params.is_empty() {
        mistakes.add(Error::new_spanned(&sig.generics, explain_test("there are no generic parameters")));
    }
}
