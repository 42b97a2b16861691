use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::time::Duration;

use db_mutex_core::store::OwnerToken;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::process::ThisOne;
use crate::subject::{Subject, another_namespace};
use crate::{CASES, Suite, cases, report};

/// How long a case may take, on the slowest machine, before it counts as stuck.
const LIMIT: Duration = Duration::from_secs(60);

/// The longest namespace.
const NAMESPACE_CHARS: usize = 40;

/// The group of the cases that check the factory.
const FACTORY: &str = "factory";

/// What a case's function returns.
pub(crate) type Body<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A case of the suite: it tests one promise of the contract, on its own database.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// What it is about, as in `fencing`.
    pub group: &'static str,
    /// What it shows, as in `fence_rises_across_purge`: the name of the test, and the one in the contract.
    pub name: &'static str,
    body: fn(&Subject) -> Body<'_>,
}

impl Case {
    pub(crate) const fn new(group: &'static str, name: &'static str, body: fn(&Subject) -> Body<'_>) -> Self {
        Self { group, name, body }
    }

    /// Runs the case on a new namespace of the suite's factory, in its own tokio runtime.
    ///
    /// # Panics
    /// If the store breaks the promise, or the case has not ended after 60 seconds. Also if called inside an async runtime,
    /// which must not be blocked.
    pub fn run(&self, suite: &Suite) {
        let this = match ThisOne::started_by_a_case() {
            // It was started for one case, also if the test runs several.
            Some(this) if this.case != self.name => return,
            this => this,
        };
        let ends_the_process = this.is_some();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run_here(suite, this)));
        if ends_the_process {
            // What a test would make of it is of no interest here.
            std::process::exit(outcome.is_err().into());
        }
        if let Err(panic) = outcome {
            let message = report::message(&*panic);
            let report = report::report(self.name, &message, self.what_is_wrong_with_the_factory(suite).as_deref());
            // The panic has printed its message already, and its new one is for those who catch it.
            eprintln!("\n{report}");
            resume_unwind(Box::new(report));
        }
    }

    /// What the cases of the factory find, if this is none of them.
    fn what_is_wrong_with_the_factory(&self, suite: &Suite) -> Option<String> {
        let cases = CASES.iter().filter(|case| case.group == FACTORY && self.group != FACTORY);
        let failures = cases.filter_map(|case| {
            let panic = catch_unwind(AssertUnwindSafe(|| case.run_here(suite, None))).err()?;
            Some(report::message(&*panic))
        });
        failures.take(1).find(|message| report::blames_the_factory(message))
    }

    fn run_here(&self, suite: &Suite, this: Option<ThisOne>) {
        let (name, body, suite) = (self.name, self.body, suite.clone());
        let cleanup = suite.clone();
        let namespace = this.as_ref().map_or_else(|| new_namespace(name), |this| this.namespace.clone());
        let cleaned = this.is_none().then(|| namespace.clone());
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(name) // A panic's message shows the thread.
            .enable_all()
            .build()
            .expect("a tokio runtime can be built");
        // As a task, so that a store which blocks its thread does not keep the limit from being noticed.
        let mut task = runtime.spawn(async move {
            let subject = Subject::open(name, namespace, suite).await;
            match &this {
                Some(this) => cases::processes::in_another(&subject, this).await,
                None => body(&subject).await,
            }
        });
        let outcome = runtime.block_on(async { timeout(LIMIT, &mut task).await });
        // If it goes on, it must not meet what is removed now, and blame the store.
        task.abort();
        if let Some(namespace) = cleaned {
            // Even if the case has failed; a failure of the cleanup must not hide that one.
            let has_another = self.group == FACTORY;
            let cleaning = runtime.spawn(async move {
                if has_another {
                    cleanup.clean_up(another_namespace(&namespace)).await;
                }
                cleanup.clean_up(namespace).await;
            });
            let cleaned = runtime.block_on(async { timeout(LIMIT, cleaning).await });
            let failed = !matches!(cleaned, Ok(Ok(())));
            assert!(
                !(failed && matches!(outcome, Ok(Ok(())))),
                "the suite's `cleanup` has failed after the case {name}"
            );
        }
        runtime.shutdown_timeout(Duration::from_secs(1));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => match failure.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(cancelled) => panic!("the case {name} was cancelled: {cancelled}"),
            },
            Err(_) => panic!("the case {name} has not ended after {LIMIT:?}: a call of the store does not return"),
        }
    }
}

/// Checks that each name is a case or a group: what the test `every_ignored_case_exists` consists of.
///
/// # Panics
/// When one is not.
pub fn check_ignored(names: &[&str]) {
    for name in names {
        let known = CASES.iter().any(|case| case.name == *name || case.group == *name);
        assert!(known, "{name} is ignored but is no case of the suite: take it out, or correct its name");
    }
}

/// A name that no other case and no other run has: the start of the case's name, and 48 random bits.
fn new_namespace(case: &str) -> String {
    let random = &OwnerToken::mint().expect("the operating system gives random numbers").to_hex()[..12];
    let start: String = case.chars().take(NAMESPACE_CHARS - 1 - random.len()).collect();
    format!("{start}_{random}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_namespace_can_name_a_table() {
        for case in CASES {
            let namespace = new_namespace(case.name);
            assert!(namespace.len() <= NAMESPACE_CHARS, "{namespace}");
            assert!(namespace.starts_with(|first: char| first.is_ascii_lowercase()), "{namespace}");
            assert!(namespace.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{namespace}");
        }
    }

    #[test]
    fn no_two_namespaces_are_alike() {
        let namespaces: BTreeSet<_> = (0..100).map(|_| new_namespace("fence_is_positive")).collect();
        assert_eq!(namespaces.len(), 100);
    }

    #[test]
    #[should_panic(expected = "no_such_case is ignored but is no case")]
    fn an_ignored_name_that_is_no_case_is_refused() {
        check_ignored(&["fence_is_positive", "no_such_case"]);
    }
}
