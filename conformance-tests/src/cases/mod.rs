//! The cases, a file for each part of the contract. Each is a plain function, and is run because `list.rs` names it.

pub(crate) mod delete;
pub(crate) mod expiry;
pub(crate) mod factory;
pub(crate) mod fencing;
pub(crate) mod hold_at_least;
pub(crate) mod idempotence;
pub(crate) mod ids;
pub(crate) mod insert;
pub(crate) mod listing;
pub(crate) mod locked_rows;
pub(crate) mod many;
pub(crate) mod processes;
pub(crate) mod purge;
pub(crate) mod races;
pub(crate) mod readers;
pub(crate) mod renew;
pub(crate) mod tokens;
pub(crate) mod waiting;
pub(crate) mod wrong_clock;
