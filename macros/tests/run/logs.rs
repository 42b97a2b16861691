//! What is logged, and what is dropped before the lock is released.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use db_mutex::testing::ManualClock;
use db_mutex::{DbMutex, Error, db_mutex, testing};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::{held, secs};

/// The events of a test, each as its level and its message.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: String) {
        self.0.lock().expect("no test panics while it logs").push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no test panics while it logs").clone()
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if matches!(field.name(), "message" | "error") {
            _ = write!(self.0, " {value:?}");
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("db_mutex")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Message(event.metadata().level().to_string());
        event.record(&mut line);
        self.add(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[db_mutex("job", store = mutex, ttl = "10s", on_held = "skip")]
async fn job(mutex: &DbMutex, clock: Option<&ManualClock>) {
    if let Some(clock) = clock {
        clock.advance(secs(11));
    }
}

#[db_mutex("job-{bad}", store = mutex, on_held = "skip")]
async fn invalid(mutex: &DbMutex, bad: &str) {}

#[tokio::test(start_paused = true)]
async fn a_skip_and_errors_that_cannot_be_returned_are_logged() {
    let (mutex, clock) = testing::mutex();
    let log = Log::default();
    let _subscribed = tracing::subscriber::set_default(log.clone());
    let logged = |line: &str| log.lines().iter().any(|logged| logged.starts_with(line));

    let other = held(&mutex, "job").await;
    job(&mutex, None).await;
    assert!(logged("INFO skipped: the lock is held"), "{:#?}", log.lines());
    other.release().await.unwrap();

    job(&mutex, Some(&clock)).await;
    assert!(logged("WARN the lock was lost; the function is finished"), "{:#?}", log.lines());

    invalid(&mutex, "\n").await;
    assert!(logged("ERROR the function was not run"), "{:#?}", log.lines());
}

#[db_mutex("job", store = mutex, on_held = "skip", blocking)]
fn blocks(mutex: &DbMutex) {
    panic!("it runs");
}

#[db_mutex("job", store = mutex, on_held = "skip", blocking)]
fn blocks_for_a_value(mutex: &DbMutex) -> Option<u8> {
    panic!("it runs")
}

/// The log says why, and what to do: that is all that such a function can do.
#[tokio::test]
async fn a_call_that_may_not_block_is_no_skip() {
    let (mutex, _clock) = testing::mutex();
    for call in [blocks as fn(&DbMutex), |mutex| assert_eq!(blocks_for_a_value(mutex), None)] {
        let log = Log::default();
        let _subscribed = tracing::subscriber::set_default(log.clone());
        call(&mutex);
        let lines = log.lines();
        let [line] = &*lines else { panic!("{lines:#?}") };
        assert!(line.starts_with("ERROR the function was not run"), "{line}");
        assert!(line.contains("spawn_blocking"), "{line}");
    }
}

/// Logs that it is dropped.
struct Probe(&'static str, Log);

impl Drop for Probe {
    fn drop(&mut self) {
        self.1.add(format!("dropped {}", self.0));
    }
}

#[db_mutex("job", store = mutex)]
async fn with_probes(mutex: &DbMutex, used: Probe, _unused: Probe) -> Result<(), Error> {
    let _variable = Probe("variable", used.1.clone());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_the_body_uses_is_dropped_before_the_release() {
    let (mutex, _clock) = testing::mutex();
    let log = Log::default();
    let _subscribed = tracing::subscriber::set_default(log.clone());
    with_probes(&mutex, Probe("used", log.clone()), Probe("unused", log.clone())).await.unwrap();
    let mut lines = log.lines();
    lines.retain(|line| line.contains("released") || line.contains("dropped"));
    assert_eq!(lines, ["dropped variable", "dropped used", "DEBUG released", "dropped unused"]);
}
