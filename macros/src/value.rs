//! The values of options.

use std::time::Duration;

use proc_macro2::Span;
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Path, Token};

use crate::duration;
use crate::suggest::nearest;
use crate::words::example;

/// A value, and where it was given.
#[derive(Clone, Copy)]
pub(crate) struct Given<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// A duration, or the word that stands for no end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Of(Duration),
    Endless,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnHeld {
    Error,
    Skip,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnLost {
    Finish,
    Drop,
}

impl OnHeld {
    pub(crate) const WORDS: [(&'static str, Self); 2] = [("error", Self::Error), ("skip", Self::Skip)];
}

impl OnLost {
    pub(crate) const WORDS: [(&'static str, Self); 2] = [("finish", Self::Finish), ("drop", Self::Drop)];
}

/// An expression of the user's.
pub(crate) fn expression(option: &Ident, input: ParseStream<'_>) -> syn::Result<Expr> {
    if input.is_empty() || input.peek(Token![,]) {
        return Err(missing(option));
    }
    input
        .parse()
        .map_err(|error| Error::new(error.span(), format!("the value of `{option}` is not an expression: {error}")))
}

/// An expression that is looked into. In macros, one that was given to them is in a group.
fn literal(option: &Ident, input: ParseStream<'_>) -> syn::Result<Expr> {
    let mut value = expression(option, input)?;
    while let Expr::Group(group) = value {
        value = *group.expr;
    }
    Ok(value)
}

pub(crate) fn missing(option: &Ident) -> Error {
    Error::new(option.span(), format!("`{option}` needs a value: `{option} = {}`", example(option)))
}

/// A duration in quotes, or the word `endless`, if the option knows one.
pub(crate) fn limit(option: &Ident, input: ParseStream<'_>, endless: Option<&str>) -> syn::Result<Given<Limit>> {
    let value = literal(option, input)?;
    let span = value.span();
    let refuse = |message: String| Err(Error::new(span, message));
    let text = match &value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => text.value(),
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) if number.suffix().is_empty() => {
            let number = number.base10_digits();
            return refuse(format!("`{option}` needs a unit, in quotes: \"{number}s\" or \"{number}ms\""));
        }
        Expr::Lit(_) => return refuse(format!("`{option}` is a duration in quotes, such as {}", example(option))),
        _ => {
            let example = example(option);
            let advice = "one that is not known when this is compiled needs `DbMutex::lock`";
            return refuse(format!("`{option}` is a duration in quotes, such as {example}; {advice}"));
        }
    };
    let is_word = !text.is_empty() && text.chars().all(char::is_alphabetic);
    match endless {
        Some(word) if text == word => return Ok(Given { value: Limit::Endless, span }),
        Some(word) if is_word => {
            let advice = match text.to_lowercase().as_str() {
                "none" | "never" | "forever" | "infinite" | "unlimited" => format!("did you mean \"{word}\"?"),
                _ => format!("write for example {}, or \"{word}\"", example(option)),
            };
            return refuse(format!("`{text}` is not a duration; {advice}"));
        }
        None if is_word && matches!(text.as_str(), "none" | "never" | "forever") => {
            return refuse(format!(
                "`{option}` has an end, such as {}; leave it out if there is none",
                example(option)
            ));
        }
        _ => {}
    }
    match duration::parse(&text) {
        Ok(duration) => Ok(Given { value: Limit::Of(duration), span }),
        Err(message) => refuse(message),
    }
}

/// `true` or `false`.
pub(crate) fn flag(option: &Ident, input: ParseStream<'_>) -> syn::Result<Given<bool>> {
    let value = literal(option, input)?;
    match &value {
        Expr::Lit(ExprLit { lit: Lit::Bool(flag), .. }) => Ok(Given { value: flag.value, span: value.span() }),
        _ => Err(Error::new(value.span(), format!("`{option}` is `true` or `false`; alone, `{option}` is `true`"))),
    }
}

/// One of two words, in quotes.
pub(crate) fn choice<T: Copy>(option: &Ident, input: ParseStream<'_>, words: &[(&str, T); 2]) -> syn::Result<Given<T>> {
    let value = literal(option, input)?;
    let span = value.span();
    let [(first, _), (second, _)] = words;
    let allowed = format!("`{option}` is \"{first}\" or \"{second}\"");
    let Expr::Lit(ExprLit { lit: Lit::Str(given), .. }) = &value else {
        return Err(Error::new(span, format!("{allowed}, in quotes")));
    };
    let given: String = LitStr::value(given);
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == given) {
        return Ok(Given { value: *value, span });
    }
    let advice = nearest(&given, &[first, second]).map(|meant| format!("; did you mean \"{meant}\"?"));
    Err(Error::new(span, format!("{allowed}{}", advice.unwrap_or_default())))
}

/// The name of a variable.
pub(crate) fn variable(option: &Ident, input: ParseStream<'_>) -> syn::Result<Ident> {
    let value = literal(option, input)?;
    let name = match &value {
        Expr::Path(path) if path.attrs.is_empty() => path.path.get_ident(),
        _ => None,
    };
    match name {
        Some(name) if name != "self" && name != "Self" && name != "super" && name != "crate" => Ok(name.clone()),
        _ => Err(Error::new(
            value.span(),
            format!("`{option}` is the name of a variable for the body: `{option} = lock`"),
        )),
    }
}

/// A path of the crate `db-mutex`.
pub(crate) fn path(option: &Ident, input: ParseStream<'_>) -> syn::Result<Path> {
    let refuse =
        |span| Error::new(span, format!("`{option}` is a path, without quotes: `{option} = {}`", example(option)));
    let ahead = input.fork();
    if let Ok(path) = ahead.call(Path::parse_mod_style) {
        input.call(Path::parse_mod_style)?;
        return Ok(path);
    }
    let value = literal(option, input)?;
    Err(refuse(value.span()))
}
