//! What the function under `#[task_handler]` must look like, and what is said if it does not.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Error, FnArg, Result, ReturnType, Signature, Type};

use crate::function::{last_segment, type_arguments};
use crate::mistakes::Mistakes;

/// What a handler takes and returns; `None` where the signature does not say.
#[derive(Default)]
pub(crate) struct Shape {
    pub(crate) payload: Option<Type>,
    pub(crate) extractors: Vec<Type>,
    pub(crate) output: Option<Type>,
    /// There is a `self`, so the function stands in an `impl`, where there can be no type next to it.
    pub(crate) method: bool,
}

/// What every handler looks like.
pub(crate) fn expected(name: &str) -> String {
    format!(
        "a task handler must have the signature:\n\n    \
         async fn {name}(args: Payload, [Data<T>, TaskContext, …]) -> TaskResult<Output>\n\n\
         Payload       what the task carries: any owned type with #[payload]\n\
         Data<T>, …    what else the handler needs, if anything, in any order\n\
         Output        what the task results in: any owned type with #[payload], or nothing"
    )
}

/// Checks a signature. Each mistake is pointed out, after the signature expected.
pub(crate) fn check(sig: &Signature, mistakes: &mut Mistakes) -> Shape {
    let mut wrong = Vec::new();
    modifiers(sig, &mut wrong);
    let mut shape = parameters(sig, &mut wrong);
    match output(sig) {
        Ok(output) => shape.output = Some(output).filter(|output| !generic(sig, output)),
        Err(error) => wrong.push(error),
    }
    if !wrong.is_empty() {
        mistakes.add(Error::new_spanned(sig, expected(&sig.ident.to_string())));
        wrong.into_iter().for_each(|error| mistakes.add(error));
    }
    shape
}

fn modifiers(sig: &Signature, wrong: &mut Vec<Error>) {
    if sig.asyncness.is_none() {
        wrong.push(Error::new_spanned(sig.fn_token, "this function is not async: write `async fn`"));
    }
    let extra = [
        sig.constness.as_ref().map(|token| (token.to_token_stream(), "const")),
        sig.unsafety.as_ref().map(|token| (token.to_token_stream(), "unsafe")),
        sig.abi.as_ref().map(|token| (token.to_token_stream(), "extern")),
    ];
    for (token, word) in extra.into_iter().flatten() {
        wrong.push(Error::new_spanned(token, format!("a task handler cannot be `{word}`: remove this")));
    }
    if !sig.generics.params.is_empty() {
        let text = "a task handler has no generic parameters: it is registered once, for one payload type";
        wrong.push(Error::new_spanned(&sig.generics, text));
    }
    if let Some(clause) = &sig.generics.where_clause {
        wrong.push(Error::new_spanned(clause, "a task handler has no generic parameters, so no `where` either"));
    }
}

fn parameters(sig: &Signature, wrong: &mut Vec<Error>) -> Shape {
    let mut shape = Shape::default();
    let mut types = Vec::new();
    for input in &sig.inputs {
        match input {
            FnArg::Receiver(this) => {
                shape.method = true;
                let text = "a task handler is a function, not a method: take shared state as `Data<T>`";
                wrong.push(Error::new_spanned(this, text));
            }
            FnArg::Typed(parameter) => types.push((*parameter.ty).clone()),
        }
    }
    let mut types = types.into_iter();
    let Some(payload) = types.next() else {
        let text = "the payload is missing; a task which carries nothing takes `_: ()`";
        wrong.push(Error::new(sig.paren_token.span.join(), text));
        return shape;
    };
    match not_a_payload(&payload).or_else(|| not_owned(&payload)) {
        Some(error) => wrong.push(error),
        None => shape.payload = Some(payload).filter(|payload| !generic(sig, payload)),
    }
    for extractor in types {
        match not_owned(&extractor) {
            Some(error) => wrong.push(error),
            None => shape.extractors.push(extractor),
        }
    }
    shape
}

/// The payload forgotten, so that something else stands in its place.
fn not_a_payload(ty: &Type) -> Option<Error> {
    let Type::Path(path) = ty else { return None };
    let [only] = &path.path.segments.iter().collect::<Vec<_>>()[..] else {
        return None;
    };
    let taken = only.ident == "TaskContext" || (only.ident == "Data" && !only.arguments.is_none());
    let text = format!("the first parameter is the payload; `{}` goes after it", only.ident);
    taken.then(|| Error::new_spanned(ty, text))
}

/// A parameter lives as long as the task runs, so it cannot borrow.
fn not_owned(ty: &Type) -> Option<Error> {
    let text = match ty {
        Type::Reference(reference) => {
            let owned = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => "`String`".to_owned(),
                Type::Slice(slice) => format!("`Vec<{}>`", slice.elem.to_token_stream()),
                Type::Path(path) => path.path.segments.last().map_or_else(String::new, |s| format!("`{}`", s.ident)),
                _ => "an owned type".to_owned(),
            };
            format!("a parameter is taken by value: {owned} instead of a reference")
        }
        Type::ImplTrait(_) => "name the type; a task handler is registered once, for one payload type".to_owned(),
        _ => borrowed(ty.to_token_stream()).then(|| "this type borrows; use an owned one".to_owned())?,
    };
    Some(Error::new_spanned(ty, text))
}

/// Whether there is a reference or a lifetime in the type, other than `'static`.
fn borrowed(ty: TokenStream) -> bool {
    let mut tokens = ty.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let next = tokens.peek().map(ToString::to_string).unwrap_or_default();
        let found = match token {
            TokenTree::Punct(punct) if punct.as_char() == '\'' => next != "static",
            TokenTree::Punct(punct) if punct.as_char() == '&' => next != "'",
            TokenTree::Group(group) => borrowed(group.stream()),
            _ => false,
        };
        if found {
            return true;
        }
    }
    false
}

/// Whether the type means nothing outside of the function.
fn generic(sig: &Signature, ty: &Type) -> bool {
    fn mentions(tokens: TokenStream, name: &Ident) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => ident == *name,
            TokenTree::Group(group) => mentions(group.stream(), name),
            _ => false,
        })
    }
    let mut parameters = sig.generics.type_params();
    parameters.any(|parameter| mentions(ty.to_token_stream(), &parameter.ident))
}

/// What the declared `Result` gives if all goes well: its first argument, or nothing.
fn output(sig: &Signature) -> Result<Type> {
    let ReturnType::Type(_, ty) = &sig.output else {
        let text = "the result is missing: write `-> TaskResult` or `-> TaskResult<Output>`";
        return Err(Error::new(sig.paren_token.span.close(), text));
    };
    let wrong = || Error::new_spanned(ty, "a task handler returns a `TaskResult` or a `Result<Output, Error>`");
    let found = match &type_arguments(ty)[..] {
        [first, ..] => *first,
        [] if last_segment(ty).is_some_and(|last| last.ident == "TaskResult") => {
            return Ok(syn::parse_quote!(()));
        }
        [] => return Err(wrong()),
    };
    match not_owned(found) {
        Some(_) => Err(Error::new_spanned(found, "the output of a task is an owned type")),
        None => Ok(found.clone()),
    }
}
