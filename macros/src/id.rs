//! Lock ids with placeholders: `"report-{id}"`, `"{self.region}/{user.id:04}"`.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::{Expr, LitStr};

use crate::errors::Errors;
use crate::rules;

/// A lock id: fixed text, and values within it.
pub(crate) struct Template {
    span: Span,
    /// The text without the placeholders.
    fixed: String,
    /// The text for `format!`, with a placeholder for each of the values.
    format: String,
    values: Vec<Expr>,
}

impl Template {
    /// Parses and checks a lock id. Every mistake is added to `errors`.
    pub(crate) fn parse(literal: &LitStr, errors: &mut Errors) -> Self {
        let (span, text) = (literal.span(), literal.value());
        let mut template = Self { span, fixed: String::new(), format: String::new(), values: Vec::new() };
        let mut rest = text.as_str();
        while let Some((before, brace, after)) = split_at_brace(rest) {
            template.push(before);
            rest = after;
            if let Some(after) = after.strip_prefix(brace) {
                template.push(if brace == '{' { "{" } else { "}" });
                rest = after;
            } else if brace == '}' {
                errors.at(span, "`}` in a lock id ends a placeholder, and none has begun; write `}}` for a brace");
            } else if let Some((inside, after)) = after.split_once('}') {
                match placeholder(inside, span) {
                    Ok((value, spec)) => {
                        template.format.push_str(&format!("{{{spec}}}"));
                        template.values.push(value);
                    }
                    Err(message) => errors.at(span, message),
                }
                rest = after;
            } else {
                errors.at(span, "`{` in a lock id begins a placeholder, and `}` is missing; write `{{` for a brace");
            }
        }
        template.push(rest);
        let has_placeholders = text.contains('{');
        let checked =
            if has_placeholders { rules::check_part_of_id(&template.fixed) } else { rules::check_id(&template.fixed) };
        if let Err(reason) = checked {
            errors.at(span, format!("invalid lock id: {reason}"));
        }
        template
    }

    fn push(&mut self, text: &str) {
        self.fixed.push_str(text);
        self.format.push_str(&text.replace('{', "{{").replace('}', "}}"));
    }

    /// An expression for the id: a string literal, or a call of `format!`.
    pub(crate) fn expression(&self, private: &TokenStream) -> TokenStream {
        let span = Span::mixed_site().located_at(self.span);
        if self.values.is_empty() {
            let text = LitStr::new(&self.fixed, span);
            return quote_spanned!(span=> #text);
        }
        let (format, values) = (LitStr::new(&self.format, span), &self.values);
        quote_spanned!(span=> #private::format!(#format #(, #values)*))
    }
}

fn split_at_brace(text: &str) -> Option<(&str, char, &str)> {
    let (before, rest) = text.split_at(text.find(['{', '}'])?);
    let mut after = rest.chars();
    let brace = after.next()?;
    Some((before, brace, after.as_str()))
}

/// # Errors
/// What is wrong with it, and what to write instead.
fn placeholder(inside: &str, span: Span) -> Result<(Expr, String), String> {
    const ALLOWED: &str =
        "a placeholder names an argument or a field of one, such as `{id}`, `{self.name}` or `{id:04}`";
    // A path has two colons.
    let colon = inside.match_indices(':').map(|(at, _)| at).find(|at| {
        let (before, after) = inside.split_at(*at);
        !before.ends_with(':') && !after.starts_with("::")
    });
    let (value, spec) = inside.split_at(colon.unwrap_or(inside.len()));
    let value = value.trim();
    if value.is_empty() {
        return Err(format!("an empty placeholder; {ALLOWED}"));
    }
    if value.chars().all(|c| c.is_ascii_digit()) {
        return Err(format!("`{{{value}}}` is a number; {ALLOWED}"));
    }
    // Names mean what they do where the id is written, also if that is given to a macro which writes the function.
    let parsed = LitStr::new(value, span).parse::<Expr>();
    let Some(expression) = parsed.ok().filter(is_place) else {
        return Err(format!("`{{{inside}}}` is not a placeholder; {ALLOWED}"));
    };
    check_spec(spec).map_err(|reason| format!("`{{{inside}}}` {reason}"))?;
    Ok((expression, spec.trim_end().to_owned()))
}

/// Whether an expression is a name or a field: nothing that does anything.
fn is_place(expression: &Expr) -> bool {
    match expression {
        Expr::Path(path) => path.attrs.is_empty(),
        Expr::Field(field) => field.attrs.is_empty() && is_place(&field.base),
        _ => false,
    }
}

/// # Errors
/// What is wrong with a format spec (with its colon), and what to write instead.
fn check_spec(spec: &str) -> Result<(), String> {
    let spec = spec.strip_prefix(':').unwrap_or(spec).trim_end();
    if spec.contains('$') || spec.contains(".*") {
        return Err("takes its width from an argument; give it as a number".into());
    }
    let mut characters = spec.chars();
    let fill = characters.next();
    let mut rest = match (fill, characters.next()) {
        (Some(_), Some('<' | '^' | '>')) => characters.as_str(),
        (Some('<' | '^' | '>'), _) => spec.get(1..).unwrap_or_default(),
        _ => spec,
    };
    rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    rest = rest.strip_prefix('#').unwrap_or(rest);
    rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if let Some(precision) = rest.strip_prefix('.') {
        rest = precision.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    match rest {
        "" | "?" | "x?" | "X?" | "x" | "X" | "o" | "b" | "e" | "E" => Ok(()),
        _ => Err(format!("has the format `{rest}`, which does not exist; see the page of std::fmt")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        let mut errors = Errors::default();
        let template = Template::parse(&LitStr::new(text, Span::call_site()), &mut errors);
        errors.finish().map_err(|error| error.to_string())?;
        Ok(template.expression(&TokenStream::new()).to_string().replace(' ', ""))
    }

    #[test]
    fn fixed_text_is_a_literal() {
        assert_eq!(parse("nightly").unwrap(), "\"nightly\"");
        assert_eq!(parse("a{{b}}c").unwrap(), "\"a{b}c\"");
    }

    #[test]
    fn placeholders_are_values() {
        let cases = [
            ("report-{id}", "::format!(\"report-{}\",id)"),
            ("{{{id}}}", "::format!(\"{{{}}}\",id)"),
            ("{self.name}/{request.user.0.id:04}", "::format!(\"{}/{:04}\",self.name,request.user.0.id)"),
            ("{ id :?}", "::format!(\"{:?}\",id)"),
            ("{pair.0.1}", "::format!(\"{}\",pair.0.1)"),
            ("{r#type}", "::format!(\"{}\",r#type)"),
            ("{Self::NAME:>8}", "::format!(\"{:>8}\",Self::NAME)"),
            ("{a:*^+#010.3e}", "::format!(\"{:*^+#010.3e}\",a)"),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("", "it is empty"),
            ("{", "`}` is missing"),
            ("a}", "write `}}`"),
            ("{}", "an empty placeholder"),
            ("{:?}", "an empty placeholder"),
            ("{0}", "is a number"),
            ("{id()}", "is not a placeholder"),
            ("{a + b}", "is not a placeholder"),
            ("{a b}", "is not a placeholder"),
            ("{a:width$}", "takes its width"),
            ("{a:.*}", "takes its width"),
            ("{a:yyyy}", "`yyyy`, which does not exist"),
            ("a\nb", "U+000A"),
            ("a\n{id}", "U+000A"),
        ];
        for (text, part) in cases {
            let message = parse(text).expect_err(text);
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
