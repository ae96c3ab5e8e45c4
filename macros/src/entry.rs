//! `#[main]`: an async `main` on a runtime.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Signature};

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
