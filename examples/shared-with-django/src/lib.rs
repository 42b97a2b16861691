//! Stores on the table of [django-db-mutex], so that a Rust worker and a Django process exclude each other while a team moves
//! its jobs from one to the other. The README beside this crate says what that table can hold and what it cannot.
//!
//! | file | idea |
//! |---|---|
//! | `both` | **what a row of Django and a row of ours mean together**, without a database |
//! | `sqlite`, `postgres` | the six methods: read both rows, apply the rule of the contract, write both |
//! | `sqlite/sql`, `postgres/sql` | the statements, and reading and writing the two rows |
//! | `main` | a worker that increments a number in a file under the lock |
//!
//! [django-db-mutex]: https://pypi.org/project/django-db-mutex/

mod both;
mod postgres;
mod sqlite;

pub use postgres::DjangoPostgres;
pub use sqlite::DjangoSqlite;

/// The example of the page beside this crate, which is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
