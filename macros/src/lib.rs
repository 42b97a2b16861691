//! The attribute of [db-mutex](https://docs.rs/db-mutex); use it through the feature `macros` of that crate.
//!
//! | file | idea |
//! |---|---|
//! | `arguments`, `words`, `value`, `duration`, `id` | what the attribute says, from the list to its values |
//! | `function` | the function under it, and where its body is |
//! | `checks` | contradictions between options, and with the function |
//! | `expand` | the function that takes its place |
//! | `rules` | what `db-mutex-core` allows |
//! | `errors`, `suggest` | all mistakes at once, and what was probably meant |
//!
//! What the generated code calls is in `src/attribute.rs` of the crate `db-mutex`.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod arguments;
mod checks;
mod duration;
mod errors;
mod expand;
mod function;
mod id;
mod rules;
mod suggest;
mod value;
mod words;

use proc_macro2::TokenStream;
use quote::quote;

use crate::arguments::Arguments;
use crate::errors::Errors;
use crate::function::Function;

#[doc = include_str!("db_mutex.md")]
#[proc_macro_attribute]
pub fn db_mutex(arguments: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let item = TokenStream::from(item);
    let expanded = expand(arguments.into(), item.clone()).unwrap_or_else(|errors| {
        // Beside the errors the function stays as it is, so that callers and editors still find it. What the attribute uses
        // of it is not reported as unused.
        let errors = errors.to_compile_error();
        quote!(#[allow(unused)] #item #errors)
    });
    expanded.into()
}

fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let mut errors = Errors::default();
    let mut arguments = Arguments::parse(arguments, &mut errors);
    let function = errors.take(Function::parse(item, arguments.blocks()));
    checks::options(&arguments, &mut errors);
    if let Some(function) = &function {
        checks::function(&arguments, function, &mut errors);
    }
    errors.finish()?;
    // Where one of them is missing, there was an error.
    match (arguments.id.take(), function) {
        (Some(id), Some(function)) => Ok(expand::function(&arguments, &id, function)),
        _ => Ok(TokenStream::new()),
    }
}
