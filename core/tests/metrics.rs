//! What dashboards see, with the feature `metrics`.

#![cfg(feature = "metrics")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_core::testing::{ManualClock, MemoryStore};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// Name and labels of each metric, and its value; of a histogram, how many values it has.
fn measured(work: impl AsyncFnOnce(DbMutex)) -> BTreeMap<String, f64> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            // With a clock of the test's all runs in this thread, whose recorder it is.
            let clock = ManualClock::new();
            let builder = DbMutex::builder(Arc::new(MemoryStore::with_clock(clock.clone()))).clock(clock);
            work(builder.keep_alive(true).ttl(Duration::from_secs(10)).build().unwrap()).await;
        });
    });
    let mut found = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|label| format!(" {}={}", label.key(), label.value())).collect();
        let value = match value {
            DebugValue::Counter(value) => f64::from(u32::try_from(value).unwrap()),
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => f64::from(u32::try_from(values.len()).unwrap()),
        };
        found.insert(format!("{}{}", key.key().name(), labels.concat()), value);
    }
    found
}

#[test]
fn what_happens_to_locks_is_counted() {
    let found = measured(async |mutex| {
        let first = mutex.lock("a").acquire().await.unwrap();
        let second = mutex.lock("b").acquire().await.unwrap();
        assert!(mutex.lock("a").acquire().await.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        first.release().await.unwrap();
        assert!(mutex.force_release("b").await.unwrap());
        assert!(second.extend(Duration::from_secs(10)).await.is_err());
    });
    let value = |name: &str| found.get(name).copied();
    assert_eq!(value("db_mutex_acquire_total outcome=granted"), Some(2.0), "{found:?}");
    assert_eq!(value("db_mutex_acquire_total outcome=held"), Some(1.0), "{found:?}");
    assert_eq!(value("db_mutex_lost_total reason=released_by_force"), Some(1.0), "{found:?}");
    assert_eq!(value("db_mutex_wait_seconds"), Some(2.0), "{found:?}");
    assert_eq!(value("db_mutex_hold_seconds"), Some(2.0), "{found:?}");
    assert_eq!(value("db_mutex_held"), Some(0.0), "{found:?}");
}
