//! The names of the options, and what unknown ones are probably meant to be.

use syn::Ident;

use crate::suggest::{list, nearest};

/// The options, as messages list them.
pub(crate) const OPTIONS: &[&str] = &[
    "store",
    "ttl",
    "wait",
    "keep_alive",
    "hold_at_least",
    "hold_at_most",
    "on_held",
    "on_lost",
    "guard",
    "blocking",
    "crate",
];

/// A value for an option.
pub(crate) fn example(option: &Ident) -> &'static str {
    match option.to_string().as_str() {
        "store" => "self.mutex",
        "ttl" => "\"30m\"",
        "wait" => "\"10s\"",
        "keep_alive" | "blocking" => "true",
        "hold_at_least" => "\"5s\"",
        "hold_at_most" => "\"2h\"",
        "on_held" => "\"skip\"",
        "on_lost" => "\"drop\"",
        "guard" => "guard",
        _ => "path::of::db_mutex",
    }
}

/// Whether a name probably stands for the lock id, which has none.
pub(crate) fn means_id(word: &str) -> bool {
    matches!(word, "id" | "lock_id" | "lock" | "name" | "key")
}

/// What to say where an option has to be.
pub(crate) fn expected() -> String {
    format!("expected an option: {}", list(OPTIONS))
}

/// What to say about an option that does not exist.
pub(crate) fn unknown(word: &str) -> String {
    let advice = match word {
        _ if means_id(word) => "the lock id comes first, without a name: `#[db_mutex(\"nightly-report\")]`".to_owned(),
        "sync" | "block" => "write `blocking`".to_owned(),
        "timeout" => "`wait` is how long to wait for the lock, `ttl` is how long the lease lasts".to_owned(),
        "suppress_acquisition_exceptions" | "skip" | "try" => "write `on_held = \"skip\"`".to_owned(),
        "mutex" | "db" | "database" | "url" => "write `store = …` with a `DbMutex`".to_owned(),
        "lease" | "expires" | "expiry" => "write `ttl`".to_owned(),
        "renew" | "auto_renew" | "heartbeat" => "write `keep_alive`".to_owned(),
        _ => match nearest(word, OPTIONS) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the options are {}", list(OPTIONS)),
        },
    };
    format!("unknown option `{word}`; {advice}")
}
