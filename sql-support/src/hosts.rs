//! Several servers in one URL: which is tried for how long, and what to say if none can be used.

use std::time::Duration;

use db_mutex_core::{StoreError, StoreErrorKind as Kind};

/// How long one of `servers` may take to let a client in, when all of them together have `limit`: one that does not answer
/// leaves time for the others.
#[must_use]
pub fn time_for_one(limit: Duration, servers: usize) -> Duration {
    limit / u32::try_from(servers.max(1) + 1).unwrap_or(u32::MAX)
}

/// The error if none of several servers can be used: each is named with its reason. Of one alone it is its own error.
///
/// It passes, and so is worth trying again, if that of one server does.
#[must_use]
pub fn none_usable(mut failures: Vec<(String, StoreError)>) -> StoreError {
    if failures.len() < 2 {
        let alone = failures.pop().map(|(_, error)| error);
        return alone.unwrap_or_else(|| StoreError::new(Kind::Config, "there is no server to connect to"));
    }
    let reasons: Vec<_> = failures.iter().map(|(server, error)| format!("{server}: {error}")).collect();
    let message = format!("none of the servers can be used; {}", reasons.join("; "));
    let first_that = |is: fn(&StoreError) -> bool| failures.iter().position(|(_, error)| is(error));
    let at = first_that(StoreError::is_transient).unwrap_or(0);
    let source = failures.swap_remove(at).1;
    StoreError::new(source.kind(), message).with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_take_less_than_the_limit() {
        for servers in 1..5 {
            let limit = Duration::from_secs(10);
            assert!(time_for_one(limit, servers) * u32::try_from(servers).unwrap() < limit);
        }
    }

    #[test]
    fn each_server_is_named_with_its_reason() {
        let refused = || StoreError::new(Kind::Config, "wrong password");
        let error = none_usable(vec![("h1:1".into(), refused()), ("[::1]:2".into(), refused())]);
        assert_eq!(error.kind(), Kind::Config);
        let message = error.to_string();
        assert!(message.contains("h1:1: wrong password; [::1]:2: wrong password"), "{message}");
        let gone = StoreError::new(Kind::Unavailable, "no answer");
        assert!(none_usable(vec![("h1:1".into(), refused()), ("h2:1".into(), gone)]).is_transient());
        assert_eq!(none_usable(vec![("h1:1".into(), refused())]).to_string(), "wrong password");
    }
}
