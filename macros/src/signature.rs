//! What the function under an attribute must look like, and what is said if it does not.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Error, FnArg, Result, Signature, Type};

use crate::function::last_segment;
use crate::mistakes::Mistakes;

mod event;
mod task;

pub(crate) use event::{EVENT, START};
pub(crate) use task::{BLOCKING, TASK};

/// What the functions under one attribute have in common.
pub(crate) struct Rules {
    /// `a task handler`
    what: &'static str,
    /// The signature, for a function of this name.
    expected: fn(&str) -> String,
    /// What is wrong with its being `async`, or with its not being so, if anything.
    asyncness: Asyncness,
    /// What is wrong with the type of the first parameter, if anything; it is an owned one.
    first: fn(&Type) -> Option<Error>,
    /// What is said if there is no parameter.
    none: &'static str,
    /// Reads the declared result.
    output: fn(&Signature) -> Result<Type>,
}

/// Whether a function is `async`, and what is said when it is and must not be, or is not and must be.
#[derive(Clone, Copy)]
enum Asyncness {
    Must(&'static str),
    MustNot(&'static str),
    May,
}

/// What a handler takes and returns; `None` where the signature does not say.
#[derive(Default)]
pub(crate) struct Shape {
    /// The payload of a task, or the event.
    pub(crate) first: Option<Type>,
    pub(crate) extractors: Vec<Type>,
    pub(crate) output: Option<Type>,
    /// There is a `self`, so the function stands in an `impl`, where there can be no type next to it.
    pub(crate) method: bool,
}

impl Rules {
    /// What every handler looks like.
    pub(crate) fn expected(&self, name: &str) -> String {
        (self.expected)(name)
    }

    /// Checks a signature. Each mistake is pointed out, after the signature expected.
    pub(crate) fn check(&self, sig: &Signature, mistakes: &mut Mistakes) -> Shape {
        let mut wrong = Vec::new();
        self.modifiers(sig, &mut wrong);
        let mut shape = self.parameters(sig, &mut wrong);
        match (self.output)(sig) {
            Ok(output) => shape.output = Some(output).filter(|output| !generic(sig, output)),
            Err(error) => wrong.push(error),
        }
        if !wrong.is_empty() {
            mistakes.add(Error::new_spanned(sig, self.expected(&sig.ident.to_string())));
            wrong.into_iter().for_each(|error| mistakes.add(error));
        }
        shape
    }

    fn modifiers(&self, sig: &Signature, wrong: &mut Vec<Error>) {
        let what = self.what;
        match (self.asyncness, &sig.asyncness) {
            (Asyncness::Must(text), None) => wrong.push(Error::new_spanned(sig.fn_token, text)),
            (Asyncness::MustNot(text), Some(token)) => wrong.push(Error::new_spanned(token, text)),
            _ => {}
        }
        let extra = [
            sig.constness.as_ref().map(|token| (token.to_token_stream(), "const")),
            sig.unsafety.as_ref().map(|token| (token.to_token_stream(), "unsafe")),
            sig.abi.as_ref().map(|token| (token.to_token_stream(), "extern")),
        ];
        for (token, word) in extra.into_iter().flatten() {
            wrong.push(Error::new_spanned(token, format!("{what} cannot be `{word}`: remove this")));
        }
        if !sig.generics.params.is_empty() {
            let text = format!("{what} has no generic parameters: it is registered once, for one payload type");
            wrong.push(Error::new_spanned(&sig.generics, text));
        }
        if let Some(clause) = &sig.generics.where_clause {
            let text = format!("{what} has no generic parameters, so no `where` either");
            wrong.push(Error::new_spanned(clause, text));
        }
    }

    fn parameters(&self, sig: &Signature, wrong: &mut Vec<Error>) -> Shape {
        let mut shape = Shape::default();
        let mut types = Vec::new();
        for input in &sig.inputs {
            match input {
                FnArg::Receiver(this) => {
                    shape.method = true;
                    let text = format!("{} is a function, not a method: take shared state as `Data<T>`", self.what);
                    wrong.push(Error::new_spanned(this, text));
                }
                FnArg::Typed(parameter) => types.push((*parameter.ty).clone()),
            }
        }
        let mut types = types.into_iter();
        let Some(first) = types.next() else {
            wrong.push(Error::new(sig.paren_token.span.join(), self.none));
            return shape;
        };
        match self.not_owned(&first).or_else(|| (self.first)(&first)) {
            Some(error) => wrong.push(error),
            None => shape.first = Some(first).filter(|first| !generic(sig, first)),
        }
        for extractor in types {
            match self.not_owned(&extractor) {
                Some(error) => wrong.push(error),
                None => shape.extractors.push(extractor),
            }
        }
        shape
    }

    /// A parameter lives as long as the handler runs, so it cannot borrow.
    fn not_owned(&self, ty: &Type) -> Option<Error> {
        let text = match ty {
            Type::Reference(reference) => {
                let owned = match &*reference.elem {
                    Type::Path(path) if path.path.is_ident("str") => "`String`".to_owned(),
                    Type::Slice(slice) => format!("`Vec<{}>`", slice.elem.to_token_stream()),
                    elem => last_segment(elem).map_or("an owned type".to_owned(), |last| format!("`{}`", last.ident)),
                };
                format!("a parameter is taken by value: {owned} instead of a reference")
            }
            Type::ImplTrait(_) => {
                format!("name the type; {} is registered once, for one payload type", self.what)
            }
            _ => borrowed(ty).then(|| "this type borrows; use an owned one".to_owned())?,
        };
        Some(Error::new_spanned(ty, text))
    }
}

/// Whether there is a reference or a lifetime in the type, other than `'static`.
fn borrowed(ty: &Type) -> bool {
    fn within(tokens: TokenStream) -> bool {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            let next = tokens.peek().map(ToString::to_string).unwrap_or_default();
            let found = match token {
                TokenTree::Punct(punct) if punct.as_char() == '\'' => next != "static",
                TokenTree::Punct(punct) if punct.as_char() == '&' => next != "'",
                TokenTree::Group(group) => within(group.stream()),
                _ => false,
            };
            if found {
                return true;
            }
        }
        false
    }
    within(ty.to_token_stream())
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
