//! The arguments of the attribute, word by word.

use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Expr, Ident, Lit, LitStr, Path, Token};

use crate::errors::Errors;
use crate::id::Template;
use crate::value::{self, Given, Limit, OnHeld, OnLost};
use crate::words::{self, OPTIONS};

/// What the attribute says. What it says wrong is missing here, and in the errors.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) id: Option<Template>,
    pub(crate) store: Option<Expr>,
    pub(crate) ttl: Option<Given<Limit>>,
    pub(crate) wait: Option<Given<Limit>>,
    pub(crate) keep_alive: Option<Given<bool>>,
    pub(crate) hold_at_least: Option<Given<Limit>>,
    pub(crate) hold_at_most: Option<Given<Limit>>,
    pub(crate) on_held: Option<Given<OnHeld>>,
    pub(crate) on_lost: Option<Given<OnLost>>,
    pub(crate) guard: Option<Ident>,
    pub(crate) blocking: Option<Given<bool>>,
    pub(crate) krate: Option<Path>,
    seen: Vec<String>,
}

impl Arguments {
    /// Parses the arguments. Every mistake is added to `errors`.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut arguments = Self::default();
        let all = |input: ParseStream<'_>| {
            let mut is_first = true;
            while !input.is_empty() || is_first {
                let parsed = if is_first { arguments.first(input, errors) } else { arguments.option(input, errors) };
                let parsed = parsed.and_then(|()| comma(input));
                if errors.take(parsed).is_none() {
                    skip_to_comma(input);
                }
                is_first = false;
            }
            Ok(())
        };
        let parsed = all.parse2(tokens);
        errors.take(parsed);
        arguments
    }

    /// Whether the function is skipped while the lock is held.
    pub(crate) fn skips(&self) -> bool {
        self.on_held.is_some_and(|on_held| on_held.value == OnHeld::Skip)
    }

    /// Where `blocking` is said, if the function blocks.
    pub(crate) fn blocks(&self) -> Option<Span> {
        self.blocking.filter(|blocking| blocking.value).map(|blocking| blocking.span)
    }

    /// The path of what generated code calls.
    pub(crate) fn private(&self) -> TokenStream {
        let site = Span::mixed_site();
        match &self.krate {
            Some(path) => quote_spanned!(site=> #path::__private),
            None => quote_spanned!(site=> ::db_mutex::__private),
        }
    }

    /// The lock id; an option is reported, and taken.
    fn first(&mut self, input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<()> {
        if input.peek(LitStr) {
            self.id = Some(Template::parse(&input.parse()?, errors));
            return Ok(());
        }
        let missing = "the lock id is missing; give it first, as a string: `#[db_mutex(\"nightly-report\")]`";
        if input.is_empty() {
            return Err(Error::new(Span::call_site(), missing));
        }
        if input.peek(Lit) {
            return Err(input.error("the lock id is a string; put it in double quotes"));
        }
        let ahead = input.fork();
        let Ok(word) = ahead.call(Ident::parse_any) else {
            return Err(input.error("the lock id is a string, and comes first"));
        };
        let ends = ahead.is_empty() || ahead.peek(Token![,]);
        let is_known = OPTIONS.contains(&word.to_string().as_str());
        if !(ahead.peek(Token![=]) || ends && is_known) {
            let name = if ends { word.to_string() } else { "id".into() };
            return Err(input.error(format!(
                "the lock id is a string; a constant, an argument or a field goes in braces: `\"{{{name}}}\"`"
            )));
        }
        // Which name it should not have is said with the other options.
        if !words::means_id(&word.to_string()) {
            errors.at(word.span(), missing);
        }
        self.option(input, errors)
    }

    fn option(&mut self, input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<()> {
        if input.peek(LitStr) {
            if self.id.is_some() {
                return Err(input.error("the lock id is given already"));
            }
            // That it is not the first was said.
            self.id = Some(Template::parse(&input.parse()?, errors));
            return Ok(());
        }
        let word = input.call(Ident::parse_any).map_err(|error| Error::new(error.span(), words::expected()))?;
        let name = word.to_string();
        if !OPTIONS.contains(&name.as_str()) {
            return Err(Error::new(word.span(), words::unknown(&name)));
        }
        if self.seen.contains(&name) {
            return Err(Error::new(word.span(), format!("`{name}` is given twice")));
        }
        self.seen.push(name.clone());
        if input.parse::<Option<Token![=]>>()?.is_none() {
            match name.as_str() {
                "keep_alive" => self.keep_alive = Some(Given { value: true, span: word.span() }),
                "blocking" => self.blocking = Some(Given { value: true, span: word.span() }),
                "guard" => self.guard = Some(word),
                _ => return Err(value::missing(&word)),
            }
            return Ok(());
        }
        match name.as_str() {
            "store" => self.store = Some(value::expression(&word, input)?),
            "ttl" => self.ttl = Some(value::limit(&word, input, Some("none"))?),
            "wait" => self.wait = Some(value::limit(&word, input, Some("forever"))?),
            "keep_alive" => self.keep_alive = Some(value::flag(&word, input)?),
            "hold_at_least" => self.hold_at_least = Some(value::limit(&word, input, None)?),
            "hold_at_most" => self.hold_at_most = Some(value::limit(&word, input, None)?),
            "on_held" => self.on_held = Some(value::choice(&word, input, &OnHeld::WORDS)?),
            "on_lost" => self.on_lost = Some(value::choice(&word, input, &OnLost::WORDS)?),
            "blocking" => {
                // Also if the value is a mistake.
                self.blocking = Some(Given { value: true, span: word.span() });
                self.blocking = Some(value::flag(&word, input)?);
            }
            "guard" => self.guard = Some(value::variable(&word, input)?),
            _ => self.krate = Some(value::path(&word, input)?),
        }
        Ok(())
    }
}

fn comma(input: ParseStream<'_>) -> syn::Result<()> {
    if input.is_empty() || input.parse::<Option<Token![,]>>()?.is_some() {
        return Ok(());
    }
    Err(input.error("a comma is missing before this"))
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        let skipped = input.step(|cursor| match cursor.token_tree() {
            Some((_, rest)) => Ok(((), rest)),
            None => Err(cursor.error("nothing left")),
        });
        if skipped.is_err() {
            return;
        }
    }
    _ = input.parse::<Option<Token![,]>>();
}
