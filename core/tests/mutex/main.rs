//! The semantics above a store: what a mutex makes of answers, errors, lost replies and time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod acquiring;
mod backlog;
mod busy;
mod company;
mod dropping;
mod flaky;
mod hints;
mod holding;
mod inline;
mod leftovers;
mod queueing;
mod renewing;
mod running;
mod runtimes;
mod server;
mod silent;
mod stale_requests;
mod troubled;
mod wrong_clock;
