//! The attribute in a crate with strict lints, and of an older edition. That it compiles is the test.
#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery, missing_docs, unused, future_incompatible)]
#![deny(missing_debug_implementations, unreachable_pub, rust_2018_idioms, let_underscore, single_use_lifetimes)]
#![deny(unused_qualifications, unused_lifetimes, elided_lifetimes_in_paths, unused_results, trivial_casts)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]
#![deny(clippy::let_underscore_must_use, clippy::redundant_type_annotations, clippy::shadow_unrelated)]
#![deny(clippy::str_to_string, clippy::pattern_type_mismatch, clippy::min_ident_chars)]
#![forbid(unsafe_code)]

pub mod functions;
pub mod futures;
pub mod methods;
