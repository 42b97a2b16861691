//! What `tracing` is told of a lock, and what it is not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use db_mutex_core::DbMutex;
use db_mutex_core::testing::{ManualClock, MemoryStore};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

/// Writes down all that it hears: a line for each event and each span.
#[derive(Debug, Clone, Default)]
struct Ear(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Ear {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut heard = self.0.lock().unwrap();
        heard.push_str(attributes.metadata().name());
        attributes.record(&mut Line(&mut heard));
        heard.push('\n');
        span::Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut heard = self.0.lock().unwrap();
        event.record(&mut Line(&mut heard));
        heard.push('\n');
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn each_step_is_told_and_no_owner_token_is() {
    let ear = Ear::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut secrets = Vec::new();
    tracing::subscriber::with_default(ear.clone(), || {
        runtime.block_on(async {
            let clock = ManualClock::new();
            let store = Arc::new(MemoryStore::with_clock(clock.clone()));
            let mutex = DbMutex::builder(store).clock(clock.clone()).build().unwrap();
            let guard = mutex.lock("job").ttl(Duration::from_secs(30)).acquire().await.unwrap();
            secrets.push(*guard.owner_token());
            assert!(mutex.lock("job").wait(Duration::from_millis(30)).acquire().await.is_err());
            guard.extend(Duration::from_secs(60)).await.unwrap();
            clock.advance(Duration::from_secs(61));
            let successor = mutex.lock("job").acquire().await.unwrap();
            secrets.push(*successor.owner_token());
            assert!(guard.release().await.is_err());
            successor.release().await.unwrap();
            mutex.run("job", async |_| ()).await.unwrap();
            mutex.shutdown(Duration::from_secs(1)).await;
        });
    });
    let heard = ear.0.lock().unwrap().clone();
    for told in
        ["acquire lock_id=\"job\"", "run lock_id=\"job\"", "message=acquired", "message=refused", "message=waiting"]
    {
        assert!(heard.contains(told), "{told} is not in\n{heard}");
    }
    for told in ["message=extended", "message=released", "message=drained", "fence=", "waited=", "held="] {
        assert!(heard.contains(told), "{told} is not in\n{heard}");
    }
    for secret in secrets {
        let bytes = format!("{:?}", secret.as_bytes());
        assert!(!heard.contains(&secret.to_hex()) && !heard.contains(bytes.trim_matches(['[', ']'])), "{heard}");
    }
}
