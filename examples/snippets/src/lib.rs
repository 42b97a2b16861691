//! The Rust of the documentation that needs sqlx: the pages of `verify_with`, and the README of `verify-with-sqlx`. The crates do
//! not depend on sqlx, so their doctests cannot compile it. That this compiles is the test.

include!(concat!(env!("OUT_DIR"), "/snippets.rs"));
