//! Contradictions: between options, and between options and the function.

use std::time::Duration;

use syn::{FnArg, Ident, Pat, Type};

use crate::arguments::Arguments;
use crate::duration::show;
use crate::errors::Errors;
use crate::function::Function;
use crate::rules::{MAX_TTL, MIN_TTL};
use crate::value::{Given, Limit, OnHeld, OnLost};

/// Adds what is wrong with the options.
pub(crate) fn options(arguments: &Arguments, errors: &mut Errors) {
    let Arguments { ttl, wait, keep_alive, hold_at_least, hold_at_most, on_held, on_lost, .. } = arguments;
    let is_endless = |given: &Option<Given<Limit>>| given.is_some_and(|given| given.value == Limit::Endless);
    let (ttl_length, at_least, at_most) = (length(ttl), length(hold_at_least), length(hold_at_most));
    if let (Some(ttl), Some(given)) = (ttl_length, ttl) {
        if ttl < MIN_TTL {
            errors.at(given.span, format!("`ttl` is {}; the shortest is {}", show(ttl), show(MIN_TTL)));
        } else if ttl > MAX_TTL {
            errors.at(given.span, format!("`ttl` is {}; the longest is {}, or \"none\"", show(ttl), show(MAX_TTL)));
        }
    }
    if let (Some(at_least), Some(given)) = (at_least, hold_at_least) {
        let (longest, of) = ttl_length.map_or((MAX_TTL, "the longest ttl"), |ttl| (ttl, "`ttl`"));
        if at_least > longest {
            let (at_least, longest) = (show(at_least), show(longest));
            errors.at(given.span, format!("`hold_at_least` is {at_least}, longer than {of}, which is {longest}"));
        }
    }
    if let (Some(at_most), Some(given)) = (at_most, hold_at_most) {
        if at_most.is_zero() {
            errors.at(given.span, "`hold_at_most` is zero; the lock would be lost at once");
        } else if at_least.is_some_and(|at_least| at_least > at_most) {
            errors.at(given.span, format!("`hold_at_most` is {}, shorter than `hold_at_least`", show(at_most)));
        }
    }
    if let Some(Given { value: true, span }) = keep_alive
        && is_endless(ttl)
    {
        errors.at(
            *span,
            "a lease with `ttl = \"none\"` never ends, so there is nothing to renew; leave out one of the two",
        );
    }
    if let Some(Given { value: OnHeld::Skip, span }) = on_held
        && is_endless(wait)
    {
        errors.at(*span, "with `wait = \"forever\"` nothing is ever skipped; leave out one of the two");
    }
    if let Some(Given { value: OnLost::Drop, span }) = on_lost
        && arguments.blocks().is_some()
    {
        let advice = "leave it out, and let the body return when `guard.is_valid()` is `false`";
        errors.at(*span, format!("nothing can drop a body that blocks, it has no await point; {advice}"));
    }
}

/// Adds what the options and the function contradict each other in.
pub(crate) fn function(arguments: &Arguments, function: &Function, errors: &mut Errors) {
    if !arguments.skips() {
        let kind = match &function.output {
            None => Some("returns nothing"),
            Some(Type::Path(path)) if path.path.segments.last().is_some_and(|last| last.ident == "Option") => {
                Some("returns an `Option`")
            }
            Some(_) => None,
        };
        if let Some(kind) = kind {
            let advice = "return `Result<_, E>` where `E: From<db_mutex::Error>`, or add `on_held = \"skip\"`";
            let message = format!("a function that {kind} cannot report that the lock is held; {advice}");
            errors.at(function.signature.ident.span(), message);
        }
    }
    if let Some(guard) = &arguments.guard
        && function.signature.inputs.iter().any(|input| is_named(input, guard))
    {
        let message = format!("an argument has the name `{guard}` already; give the guard another: `guard = lock`");
        errors.at(guard.span(), message);
    }
}

fn length(given: &Option<Given<Limit>>) -> Option<Duration> {
    match given.as_ref()?.value {
        Limit::Of(duration) => Some(duration),
        Limit::Endless => None,
    }
}

fn is_named(input: &FnArg, name: &Ident) -> bool {
    matches!(input, FnArg::Typed(input) if matches!(&*input.pat, Pat::Ident(pattern) if pattern.ident == *name))
}
