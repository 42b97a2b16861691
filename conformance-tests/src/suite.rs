use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use db_mutex_core::store::{Fence, LockId, LockStore};

use crate::CASES;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Open = dyn Fn(String) -> Boxed<Arc<dyn LockStore>> + Send + Sync;
/// The row is locked until what it returns is dropped.
type LockRow = dyn Fn(String, LockId) -> Boxed<Box<dyn Send>> + Send + Sync;
type Cleanup = dyn Fn(String) -> Boxed<()> + Send + Sync;
type ShiftRow = dyn Fn(String, LockId, Duration) -> Boxed<()> + Send + Sync;
type PlantFence = dyn Fn(String, LockId, Fence) -> Boxed<()> + Send + Sync;

/// The store under test, and what the cases can do to its rows from outside: what [`suite!`](crate::suite) is made from.
#[derive(Clone)]
pub struct Suite {
    pub(crate) open: Arc<Open>,
    pub(crate) lock_row: Option<Arc<LockRow>>,
    pub(crate) shift_row: Option<Arc<ShiftRow>>,
    pub(crate) plant_fence: Option<Arc<PlantFence>>,
    cleanup: Option<Arc<Cleanup>>,
    pub(crate) test: Option<String>,
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
        Self { open: Arc::new(open), lock_row: None, shift_row: None, plant_fence: None, cleanup: None, test: None }
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

    /// Sets how to give a row another fencing token; see [the crate's page](crate#rows-of-other-transactions).
    #[must_use]
    pub fn plant_fence<F, Fut>(mut self, plant_fence: F) -> Self
    where
        F: Fn(String, LockId, Fence) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.plant_fence = Some(Arc::new(move |namespace, id, fence| Box::pin(plant_fence(namespace, id, fence))));
        self
    }

    /// Sets how to remove what a namespace has left; see [the crate's page](crate#the-factorys-contract). It is called after
    /// each case, also after one that has failed.
    #[must_use]
    pub fn cleanup<F, Fut>(mut self, cleanup: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.cleanup = Some(Arc::new(move |namespace| Box::pin(cleanup(namespace))));
        self
    }

    /// Names the test that calls [`run`](Self::run), with the path of its module and its crate: what
    /// `concat!(module_path!(), "::name_of_the_test")` is. Cases in the group `processes` start it again as other processes.
    #[must_use]
    pub fn test(mut self, path: &str) -> Self {
        self.test = path.split_once("::").map(|(_crate, path)| path.to_owned());
        self
    }

    pub(crate) async fn clean_up(&self, namespace: String) {
        if let Some(cleanup) = &self.cleanup {
            cleanup(namespace).await;
        }
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
        f.debug_struct("Suite")
            .field("lock_row", &self.lock_row.is_some())
            .field("shift_row", &self.shift_row.is_some())
            .field("plant_fence", &self.plant_fence.is_some())
            .finish_non_exhaustive()
    }
}

/// Makes a `#[test]` of every case of the suite, for the store that the factory opens.
///
/// The factory is a `Fn(String) -> impl Future<Output = impl LockStore>`; see
/// [the crate's page](crate#the-factorys-contract) for its contract, and for
/// [`lock_row`, `shift_row` and `plant_fence`](crate#rows-of-other-transactions). `cleanup` removes what a namespace has left.
/// Cases and groups named in `ignore` become `#[ignore = "why"]`.
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
        $(, plant_fence = $plant_fence:expr)?
        $(, cleanup = $cleanup:expr)?
        $(, ignore = { $($ignored:ident : $why:literal),* $(,)? })?
        $(,)?
    ) => {
        // The factory is compiled once, not once a case.
        fn run_conformance_case(name: &str, test: &str) {
            $crate::Suite::new($factory)
                $(.lock_row($lock_row))?
                $(.shift_row($shift_row))?
                $(.plant_fence($plant_fence))?
                $(.cleanup($cleanup))?
                .test(test)
                .run(name);
        }

        #[test]
        fn every_ignored_case_exists() {
            $crate::check_ignored(&[$($(stringify!($ignored)),*)?]);
        }

        // The ignored names have their own arms, before the one that takes every name.
        macro_rules! conformance_test {
            $($(
                ($group:ident $ignored) => {
                    #[test]
                    #[ignore = $why]
                    fn $ignored() {
                        run_conformance_case(stringify!($ignored), concat!(module_path!(), "::", stringify!($ignored)));
                    }
                };
                ($ignored $name:ident) => {
                    #[test]
                    #[ignore = $why]
                    fn $name() {
                        run_conformance_case(stringify!($name), concat!(module_path!(), "::", stringify!($name)));
                    }
                };
            )*)?
            ($group:ident $name:ident) => {
                #[test]
                fn $name() {
                    run_conformance_case(stringify!($name), concat!(module_path!(), "::", stringify!($name)));
                }
            };
        }
        $crate::for_each_case!(conformance_test);
    };
}
