//! Rust and real processes of django-db-mutex on one table. `scripts/test-django` installs them and runs this.

mod counter;
mod expiry;
mod project;
mod refusals;
