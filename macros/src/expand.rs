//! The function that takes the place of the one under the attribute.

use std::time::Duration;

use proc_macro2::{Delimiter, Group, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, GenericArgument, Ident, PathArguments, Type};

use crate::arguments::Arguments;
use crate::function::{Body, Function};
use crate::id::Template;
use crate::value::{Limit, OnLost};

/// Rewrites the function with its body under the lock. Signature and attributes stay as they are.
pub(crate) fn function(arguments: &Arguments, id: &Template, function: Function) -> TokenStream {
    let Function { attributes, visibility, signature, inner, body, output } = function;
    let body = match body {
        Body::Async(body) | Body::Blocking(body) => under_lock(arguments, id, &body, output),
        Body::Future { before, future, pin } => {
            let (attributes, capture, block) = (&future.attrs, &future.capture, &future.block);
            let mut body = Group::new(Delimiter::Brace, block.stmts.iter().map(ToTokens::to_token_stream).collect());
            body.set_span(block.brace_token.span.join());
            let inside = under_lock(arguments, id, &body, output);
            let future = quote!(#(#attributes)* async #capture { #inside });
            let future = pin.map_or(future.clone(), |pin| quote!(#pin(#future)));
            quote!(#(#before)* #future)
        }
    };
    quote! {
        #(#attributes)*
        #visibility #signature {
            #(#inner)*
            #body
        }
    }
}

/// `body` as a closure under the lock, with the name of the guard. Names of the generated code are hygienic.
fn under_lock(arguments: &Arguments, id: &Template, body: &Group, output: Option<Type>) -> TokenStream {
    let private = arguments.private();
    let lock = lock(arguments, id, &private);
    let guard = arguments.guard.as_ref().map_or(quote!(_), ToTokens::to_token_stream);
    let mut output = output.unwrap_or_else(|| syn::parse_quote!(()));
    infer_opaque(&mut output);
    let site = Span::mixed_site();
    let or_what = Ident::new(if arguments.skips() { "or_skip" } else { "or_error" }, site);
    // The types of async closures are not annotated: what the body returns would not be coerced to them. It is to the type
    // of an earlier `return`.
    let statements = body.stream();
    let inside = quote_spanned! {site=>
        if let #private::Some(output) = #private::none::<#output>() {
            return output;
        }
        #statements
    };
    let mut inside = Group::new(Delimiter::Brace, inside);
    inside.set_span(site.located_at(body.span()));
    if arguments.blocks().is_some() {
        // A macro of the crate, which says so where its feature is missing.
        return quote_spanned! {site=>
            #private::if_blocking!({
                let lock = #lock;
                #private::#or_what::<#output>().block(lock, move |#guard: &#private::BlockingGuard| #inside)
            })
        };
    }
    quote_spanned! {site=>
        let lock = #lock;
        #private::#or_what::<#output>().run(lock, async move |#guard: &#private::Guard| #inside).await
    }
}

/// An expression for the lock with its options.
fn lock(arguments: &Arguments, id: &Template, private: &TokenStream) -> TokenStream {
    let site = Span::mixed_site();
    let id = id.expression(private);
    let lock = match &arguments.store {
        None => quote_spanned!(site=> #private::global_lock(#id)),
        Some(store) => {
            let place = match store {
                Expr::Reference(reference) if reference.mutability.is_none() => &reference.expr,
                _ => store,
            };
            // A block: what the expression borrows is given back before anything is awaited.
            let at_store = site.located_at(store.span());
            let (borrow, mutex) = (quote_spanned!(at_store=> &), Ident::new("mutex", at_store));
            quote_spanned!(site=> { let #mutex = #borrow #place; #private::lock(#mutex, #id) })
        }
    };
    let options = options(arguments, private);
    if options.is_empty() { lock } else { quote_spanned!(site=> #lock.map(|lock| lock #options)) }
}

/// The options as calls of methods.
fn options(arguments: &Arguments, private: &TokenStream) -> TokenStream {
    let site = Span::mixed_site();
    let limit = |limit: Limit, endless: TokenStream| match limit {
        Limit::Of(duration) => length(duration, private),
        Limit::Endless => quote_spanned!(site=> #private::#endless),
    };
    let ttl = arguments.ttl.map(|ttl| limit(ttl.value, quote!(Ttl::NEVER)));
    let wait = arguments.wait.map(|wait| limit(wait.value, quote!(WaitLimit::Forever)));
    let hold_at_least = arguments.hold_at_least.map(|given| limit(given.value, quote!(Duration::MAX)));
    let hold_at_most = arguments.hold_at_most.map(|given| limit(given.value, quote!(Duration::MAX)));
    let keep_alive = arguments.keep_alive.map(|given| given.value);
    let on_lost = arguments.on_lost.map(|given| match given.value {
        OnLost::Finish => quote_spanned!(site=> #private::OnLost::Finish),
        OnLost::Drop => quote_spanned!(site=> #private::OnLost::Drop),
    });
    let call = |method: &str, value: Option<TokenStream>| {
        let method = Ident::new(method, site);
        value.map(|value| quote_spanned!(site=> .#method(#value)))
    };
    [
        call("ttl", ttl),
        call("wait", wait),
        call("hold_at_least", hold_at_least),
        call("hold_at_most", hold_at_most),
        call("keep_alive", keep_alive.map(|keep_alive| quote!(#keep_alive))),
        call("on_lost", on_lost),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn length(duration: Duration, private: &TokenStream) -> TokenStream {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    quote_spanned!(Span::mixed_site()=> #private::Duration::new(#seconds, #nanos))
}

/// Replaces `impl Trait` by `_`: it is not allowed in the body of a function.
fn infer_opaque(output: &mut Type) {
    match output {
        Type::ImplTrait(opaque) => {
            *output = Type::Infer(syn::TypeInfer { underscore_token: syn::Token![_](opaque.span()) })
        }
        Type::Path(path) => {
            for segment in &mut path.path.segments {
                if let PathArguments::AngleBracketed(arguments) = &mut segment.arguments {
                    for argument in &mut arguments.args {
                        if let GenericArgument::Type(inside) = argument {
                            infer_opaque(inside);
                        }
                    }
                }
            }
        }
        Type::Tuple(tuple) => tuple.elems.iter_mut().for_each(infer_opaque),
        Type::Reference(reference) => infer_opaque(&mut reference.elem),
        Type::Array(array) => infer_opaque(&mut array.elem),
        Type::Slice(slice) => infer_opaque(&mut slice.elem),
        Type::Paren(paren) => infer_opaque(&mut paren.elem),
        Type::Group(group) => infer_opaque(&mut group.elem),
        _ => {}
    }
}
