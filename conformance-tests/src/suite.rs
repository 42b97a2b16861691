/// Makes a `#[test]` of every case of the suite, for the store that the factory opens.
///
/// The factory is a `Fn(String) -> impl Future<Output = impl LockStore>`; what it has to do is told in
/// [the crate's page](crate#the-factorys-contract). Cases that are named behind `ignore` become `#[ignore = "why"]`.
///
/// ```
/// # use db_mutex_core::MemoryStore;
/// # fn open(_: String) -> MemoryStore { MemoryStore::new() }
/// db_mutex_conformance::suite!(|namespace| async move { open(namespace) });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! suite {
    ($factory:expr $(,)?) => {
        $crate::suite!($factory, ignore = {});
    };
    ($factory:expr, ignore = { $($ignored:ident : $why:literal),* $(,)? } $(,)?) => {
        // The factory is compiled once, not once a case.
        fn run_conformance_case(name: &str) {
            $crate::run_case(name, $factory);
        }

        #[test]
        fn every_ignored_case_exists() {
            $crate::check_ignored(&[$(stringify!($ignored)),*]);
        }

        // The ignored names are arms of their own, before the one that takes every name.
        macro_rules! conformance_test {
            $(
                ($ignored) => {
                    #[test]
                    #[ignore = $why]
                    fn $ignored() {
                        run_conformance_case(stringify!($ignored));
                    }
                };
            )*
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
