//! What is special about SQLite: how a file is opened and what is refused, the traps of the driver, and transactions of
//! the user's own. The contract itself is shown by the conformance suite.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod database;
mod model;
mod opening;
mod traps;
mod verify;
mod waiting;
