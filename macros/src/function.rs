//! The function under an attribute, as written.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, GenericArgument, Lit, Meta, PathArguments, PathSegment};
use syn::{Result, ReturnType, Signature, Type, Visibility};

/// A function, all but its body.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) body: TokenStream,
}

impl Function {
    /// Reads a function; anything else gives the error which `otherwise` makes at the given token.
    pub(crate) fn parse(item: TokenStream, otherwise: impl Fn(&str) -> String) -> Result<Self> {
        let read = |input: ParseStream<'_>| {
            let attrs = input.call(Attribute::parse_outer)?;
            let vis = input.parse()?;
            let first: Option<TokenTree> = input.fork().parse().ok();
            let sig = input.parse().map_err(|error| match &first {
                Some(TokenTree::Ident(word)) if word != "fn" && word != "async" => {
                    Error::new(word.span(), otherwise(&word.to_string()))
                }
                _ => error,
            })?;
            Ok(Function { attrs, vis, sig, body: input.parse()? })
        };
        read.parse2(item)
    }

    /// The `#[cfg]` attributes, which whatever belongs to the function must have as well.
    pub(crate) fn cfgs(&self) -> impl Iterator<Item = &Attribute> {
        self.attrs.iter().filter(|attr| attr.path().is_ident("cfg"))
    }

    /// Where an error type is declared: the second argument of the result, or the whole.
    pub(crate) fn failure(&self) -> Span {
        let arguments = match &self.sig.output {
            ReturnType::Type(_, ty) => type_arguments(ty),
            ReturnType::Default => Vec::new(),
        };
        match (&arguments[..], &self.sig.output) {
            ([_, error, ..], _) => error.span(),
            (_, ReturnType::Type(_, ty)) => ty.span(),
            (_, ReturnType::Default) => self.sig.ident.span(),
        }
    }

    /// Tells this code from another: FNV-1a (Fowler, Noll and Vo, 1991) of its parameters and its body.
    pub(crate) fn fingerprint(&self) -> u32 {
        let text = format!("{} {}", self.sig.inputs.to_token_stream(), self.body);
        text.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }

    /// The doc comment.
    pub(crate) fn doc(&self) -> String {
        let lines = self.attrs.iter().filter_map(|attr| match &attr.meta {
            Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
                Expr::Lit(ExprLit { lit: Lit::Str(line), .. }) => Some(line.value()),
                _ => None,
            },
            _ => None,
        });
        let lines: Vec<_> = lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned()).collect();
        lines.join("\n").trim().to_owned()
    }
}

/// `TaskResult<Fix>` of `orchestrator_worker::TaskResult<Fix>`.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        // Around a type which a macro was given.
        Type::Group(group) => last_segment(&group.elem),
        _ => None,
    }
}

/// The types between the angle brackets.
pub(crate) fn type_arguments(ty: &Type) -> Vec<&Type> {
    match last_segment(ty).map(|last| &last.arguments) {
        Some(PathArguments::AngleBracketed(list)) => {
            let types = list.args.iter().filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            });
            types.collect()
        }
        _ => Vec::new(),
    }
}
