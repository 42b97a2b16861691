//! The pages of the repository as doctests, so that their Rust compiles.

macro_rules! pages {
    ($($file:literal: $name:ident $(if $feature:meta)?,)*) => {
        $(
            $(#[cfg($feature)])?
            #[doc = include_str!($file)]
            struct $name;
        )*
    };
}

pages! {
    "../README.md": Readme if all(feature = "all-backends", feature = "macros", feature = "blocking", feature = "tower"),
    "../docs/command.md": Command,
    "../docs/coming-from-django-db-mutex.md": ComingFromDjangoDbMutex
        if all(feature = "sqlite-unbundled", feature = "macros", feature = "tower"),
    "../docs/comparison.md": Comparison,
    "../docs/engines.md": Engines,
    "../docs/guarantees.md": Guarantees,
    "../docs/installing.md": Installing,
    "../docs/migrating.md": Migrating if feature = "macros",
    "../docs/operating.md": Operating,
    "../docs/performance.md": Performance,
    "../docs/troubleshooting.md": Troubleshooting,
    "../docs/ttl.md": ChoosingATtl if feature = "sqlite-unbundled",
    "../docs/writing-a-store.md": WritingAStore,
}
