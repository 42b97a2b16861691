//! The semantics above a store: what a mutex makes of answers, errors, lost replies and time.

mod acquiring;
mod dropping;
mod flaky;
mod holding;
mod running;
