//! The function under the attribute: whether it can run under a lock, and where its body is.

use proc_macro2::{Group, Span, TokenStream};
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Block, Error, Expr, ExprAsync, ExprCall, ExprPath, GenericArgument, PathArguments, ReturnType,
    Signature, Stmt, Token, Type, TypeParamBound, Visibility,
};

/// A function whose body can run under a lock.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) signature: Signature,
    /// `#![…]` at the beginning of the body.
    pub(crate) inner: Vec<Attribute>,
    pub(crate) body: Body,
    /// What the body returns; `None` for nothing.
    pub(crate) output: Option<Type>,
}

pub(crate) enum Body {
    /// That of an `async fn`, with its braces.
    Async(Group),
    /// That of a function that blocks, with its braces.
    Blocking(Group),
    /// That of a function which returns a future: statements, and then `async move { … }`, or `Box::pin` of it. So
    /// async-trait writes methods, and so do people.
    Future { before: Vec<Stmt>, future: Box<ExprAsync>, pin: Option<ExprPath> },
}

const PLAIN: &str = "`#[db_mutex]` needs an `async fn`, or the option `blocking`. If another attribute makes it a function \
                     that blocks, such as `#[tokio::main]`, put this one above it";

impl Function {
    /// Parses the item under the attribute, which is said to block at `blocking`.
    ///
    /// # Errors
    /// It is not a function, or one that cannot run under a lock.
    pub(crate) fn parse(item: TokenStream, blocking: Option<Span>) -> syn::Result<Self> {
        let (attributes, visibility, signature, body) = parts.parse2(item)?;
        let Some(body) = body else {
            let message = "`#[db_mutex]` needs a body to run under the lock; put it on the implementation";
            return Err(Error::new(signature.ident.span(), message));
        };
        if let Some(word) = &signature.constness {
            return Err(Error::new(word.span, "a `const fn` cannot wait for a lock; leave out `const`"));
        }
        if let ReturnType::Type(_, output) = &signature.output
            && matches!(**output, Type::Never(_))
        {
            let message =
                "a function that never returns cannot report that the lock is held or lost; return `Result<_, E>`";
            return Err(Error::new_spanned(output, message));
        }
        let is_async = signature.asyncness.is_some();
        if let Some(blocking) = blocking.filter(|_| is_async) {
            return Err(Error::new(blocking, "`blocking` is for functions that are not async; leave it out"));
        }
        if let Some(blocking) = blocking.filter(|_| output_of_future(&signature.output).is_some()) {
            let message =
                "the future that this function returns would run after the release of the lock; leave out `blocking`";
            return Err(Error::new(blocking, message));
        }
        let (inner, body, output) = if is_async || blocking.is_some() {
            let output = match &signature.output {
                ReturnType::Type(_, output) => Some((**output).clone()),
                ReturnType::Default => None,
            };
            let (inner, body) = without_inner(&body)?;
            (inner, if is_async { Body::Async(body) } else { Body::Blocking(body) }, output)
        } else {
            let plain = || Error::new(signature.fn_token.span, PLAIN);
            let (before, future, pin) = future_of(&body).ok_or_else(plain)?;
            let output = output_of_future(&signature.output).ok_or_else(plain)?;
            (Vec::new(), Body::Future { before, future: Box::new(future), pin }, Some(output))
        };
        let output = output.filter(|output| !matches!(output, Type::Tuple(tuple) if tuple.elems.is_empty()));
        Ok(Self { attributes, visibility, signature, inner, body, output })
    }
}

fn parts(input: ParseStream<'_>) -> syn::Result<(Vec<Attribute>, Visibility, Signature, Option<Group>)> {
    let attributes = Attribute::parse_outer(input)?;
    let start = input.span();
    let visibility = input.parse()?;
    let has_functions = input.peek(Token![impl]) || input.peek(Token![trait]) || input.peek(Token![mod]);
    let Ok(signature) = input.parse::<Signature>() else {
        input.parse::<TokenStream>()?;
        let advice = if has_functions { "put it on the functions inside" } else { "put it on an `async fn`" };
        return Err(Error::new(start, format!("`#[db_mutex]` is for functions; {advice}")));
    };
    let body = if input.parse::<Option<Token![;]>>()?.is_some() { None } else { Some(input.parse()?) };
    Ok((attributes, visibility, signature, body))
}

/// Takes `#![…]` from the beginning of a body: they are allowed only there.
fn without_inner(body: &Group) -> syn::Result<(Vec<Attribute>, Group)> {
    let split = |input: ParseStream<'_>| Ok((Attribute::parse_inner(input)?, input.parse::<TokenStream>()?));
    let (inner, rest) = split.parse2(body.stream())?;
    let mut without = Group::new(body.delimiter(), rest);
    without.set_span(body.span());
    Ok((inner, without))
}

/// The future that a body ends with, and what is before it.
fn future_of(body: &Group) -> Option<(Vec<Stmt>, ExprAsync, Option<ExprPath>)> {
    let mut before = Block::parse_within.parse2(body.stream()).ok()?;
    match before.pop()? {
        Stmt::Expr(Expr::Async(future), None) => Some((before, future, None)),
        Stmt::Expr(Expr::Call(ExprCall { func, mut args, .. }), None) => {
            let Expr::Path(function) = *func else { return None };
            let names: Vec<_> = function.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let is_pin = matches!(names.as_slice(), [.., kind, pin] if kind == "Box" && pin == "pin");
            match (args.pop()?.into_value(), is_pin && args.is_empty()) {
                (Expr::Async(future), true) => Some((before, future, Some(function))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The output of the future that a function returns: `impl Future<Output = T>` or `Pin<Box<dyn Future<Output = T>>>`.
fn output_of_future(output: &ReturnType) -> Option<Type> {
    let ReturnType::Type(_, output) = output else { return None };
    match &**output {
        Type::ImplTrait(future) => output_of_bounds(&future.bounds),
        Type::Path(_) => match only_argument(only_argument(output, "Pin")?, "Box")? {
            Type::TraitObject(future) => output_of_bounds(&future.bounds),
            _ => None,
        },
        _ => None,
    }
}

/// `T` of `Name<T>`.
fn only_argument<'a>(of: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = of else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(argument) => Some(argument),
        _ => None,
    }
}

fn output_of_bounds(bounds: &Punctuated<TypeParamBound, Token![+]>) -> Option<Type> {
    bounds.iter().find_map(|bound| {
        let TypeParamBound::Trait(bound) = bound else { return None };
        let last = bound.path.segments.last().filter(|last| last.ident == "Future")?;
        let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
        arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::AssocType(output) if output.ident == "Output" => Some(output.ty.clone()),
            _ => None,
        })
    })
}
