//! What the attributes expand to and what they say, token by token.

use proc_macro2::{TokenStream, TokenTree};

use crate::expand;

mod arguments;
mod events;
mod expansion;
mod patterns;
mod policies;
mod rules;
mod signatures;

fn tokens(code: &str) -> TokenStream {
    code.parse().expect("code")
}

fn handler(args: &str, item: &str) -> TokenStream {
    expand::task_handler(tokens(args), &tokens(item))
}

fn event_handler(args: &str, item: &str) -> TokenStream {
    expand::event_handler(tokens(args), &tokens(item))
}

/// The messages of all `compile_error!` in an expansion.
fn errors(expansion: TokenStream) -> Vec<String> {
    let tokens: Vec<_> = expansion.into_iter().collect();
    let calls = tokens.windows(3).filter_map(|window| match window {
        [TokenTree::Ident(name), _, TokenTree::Group(text)] if name == "compile_error" => {
            let text: syn::LitStr = syn::parse2(text.stream()).expect("a message");
            Some(text.value())
        }
        _ => None,
    });
    calls.collect()
}

/// There is one message, and it starts as given.
#[track_caller]
fn one(expansion: TokenStream, start: &str) {
    let errors = errors(expansion);
    assert!(errors.len() == 1 && errors[0].starts_with(start), "{errors:#?}, not {start}");
}

#[track_caller]
fn none(expansion: TokenStream) {
    assert_eq!(errors(expansion), [""; 0]);
}
