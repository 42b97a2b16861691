use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::{LockId, LockStore};

use crate::CASES;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Open = dyn Fn(String) -> Boxed<Arc<dyn LockStore>> + Send + Sync;
/// The row is locked until what it returns is dropped.
type LockRow = dyn Fn(String, LockId) -> Boxed<Box<dyn Send>> + Send + Sync;
type ShiftRow = dyn Fn(String, LockId, Duration) -> Boxed<()> + Send + Sync;

/// The store under test, and what the cases can do to its rows from outside: what [`suite!`](crate::suite) is made from.
#[derive(Clone)]
pub struct Suite {
    pub(crate) open: Arc<Open>,
    pub(crate) lock_row: Option<Arc<LockRow>>,
    pub(crate) shift_row: Option<Arc<ShiftRow>>,
}

impl Suite {
    /// A suite for the stores that `factory` opens; see [its contract](crate#the-factorys-contract).
    pub fn new<F, Fut, S>(factory: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = S> + Send + 'static,
        S: LockStore,
    {
        let open = move |namespace| -> Boxed<Arc<dyn LockStore>> {
            let opening = factory(namespace);
            Box::pin(async move { Arc::new(opening.await) as Arc<dyn LockStore> })
        };
        Self { open: Arc::new(open), lock_row: None, shift_row: None }
    }

    /// Sets how to lock a row as another transaction would; see [the crate's page](crate#rows-of-other-transactions).
    #[must_use]
    pub fn lock_row<F, Fut, L>(mut self, lock_row: F) -> Self
    where
        F: Fn(String, LockId) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = L> + Send + 'static,
        L: Send + 'static,
    {
        self.lock_row = Some(Arc::new(move |namespace, id| {
            let locking = lock_row(namespace, id);
            Box::pin(async move { Box::new(locking.await) as Box<dyn Send> })
        }));
        self
    }

    /// Sets how to move the times of a row; see [the crate's page](crate#rows-of-other-transactions).
    #[must_use]
    pub fn shift_row<F, Fut>(mut self, shift_row: F) -> Self
    where
        F: Fn(String, LockId, Duration) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.shift_row = Some(Arc::new(move |namespace, id, by| Box::pin(shift_row(namespace, id, by))));
        self
    }

    /// Runs the case with that name.
    ///
    /// # Panics
    /// If there is no such case, and same as [`Case::run`](crate::Case::run).
    pub fn run(&self, name: &str) {
        match CASES.iter().find(|case| case.name == name) {
            Some(case) => case.run(self),
            None => panic!("the suite has no case called {name}"),
        }
    }
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (lock_row, shift_row) = (self.lock_row.is_some(), self.shift_row.is_some());
        f.debug_struct("Suite").field("lock_row", &lock_row).field("shift_row", &shift_row).finish_non_exhaustive()
    }
}

/// Makes a `#[test]` of every case of the suite, for the store that the factory opens.
///
/// The factory is a `Fn(String) -> impl Future<Output = impl LockStore>`; see
/// [the crate's page](crate#the-factorys-contract) for its contract, and for
/// [`lock_row` and `shift_row`](crate#rows-of-other-transactions). Cases named in `ignore` become `#[ignore = "why"]`.
///
/// ```
/// # use db_mutex_core::testing::MemoryStore;
/// # fn open(_: String) -> MemoryStore { MemoryStore::new() }
/// db_mutex_conformance::suite!(|namespace| async move { open(namespace) });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! suite {
    (
        $factory:expr
        $(, lock_row = $lock_row:expr)?
        $(, shift_row = $shift_row:expr)?
        $(, ignore = { $($ignored:ident : $why:literal),* $(,)? })?
        $(,)?
    ) => {
        // The factory is compiled once, not once a case.
        fn run_conformance_case(name: &str) {
            $crate::Suite::new($factory)
                $(.lock_row($lock_row))?
                $(.shift_row($shift_row))?
                .run(name);
        }

        #[test]
        fn every_ignored_case_exists() {
            $crate::check_ignored(&[$($(stringify!($ignored)),*)?]);
        }

        // The ignored names have their own arms, before the one that takes every name.
        macro_rules! conformance_test {
            $($(
                ($ignored) => {
                    #[test]
                    #[ignore = $why]
                    fn $ignored() {
                        run_conformance_case(stringify!($ignored));
                    }
                };
            )*)?
            ($name:ident) => {
                #[test]
                fn $name() {
                    run_conformance_case(stringify!($name));
                }
            };
        }
        $crate::for_each_case!(conformance_test);
    };
}
