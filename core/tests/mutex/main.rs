//! The semantics above a store: what a mutex makes of answers, errors, lost replies and time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod acquiring;
mod busy;
mod dropping;
mod flaky;
mod holding;
mod queueing;
mod renewing;
mod running;
mod stale_requests;
mod wrong_clock;
