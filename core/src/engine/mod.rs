//! What keeps locks alive, releases them and waits for them, between the users' types and a store.

pub(crate) mod backoff;
pub(crate) mod busy;
pub(crate) mod deadline;
pub(crate) mod holding;
pub(crate) mod jitter;
pub(crate) mod queue;
pub(crate) mod releaser;
pub(crate) mod renewal;
pub(crate) mod telemetry;
