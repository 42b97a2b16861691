//! What is special about PostgreSQL: what an attempt writes, whom it waits for, what wakes a waiter, what a crash leaves, and
//! transactions of the user's own. The contract itself is shown by the conformance suite.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod asynchronous;
mod company;
mod crash;
mod database;
mod dead;
mod distance;
mod failover;
mod fences;
mod forced;
mod listening;
mod locked_rows;
mod many;
mod proxied;
mod repeats;
mod runtimes;
#[path = "../server/mod.rs"]
mod server;
mod synchronous;
mod traps;
mod verify;
mod waking;
mod wal;
mod wrong_clock;
