//! Times and tables for people, JSON for machines.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use comfy_table::{Table, presets};
use db_mutex::Holder;
use db_mutex::admin::{LockRow, LockState, StoreTime};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::exit::{FAILED, Failure, by_signal};

/// Prints a text and a line break. If the reader has gone away, the command ends silently, as by SIGPIPE.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    raw(&format!("{text}\n"))
}

/// Prints a text as it is, at once.
pub(crate) fn raw(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(by_signal(Signal::SIGPIPE as i32), ""),
        _ => Failure::new(FAILED, format!("cannot write to standard output: {error}")),
    })
}

/// Prints a note to standard error; a closed standard error is no failure.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "db-mutex: {text}");
}

/// A duration for people: the two largest units, or milliseconds below a second.
pub(crate) fn span(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    let whole = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    whole.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// A time of the database's clock in RFC 3339, to the millisecond, UTC.
pub(crate) fn timestamp(time: StoreTime) -> String {
    match time.to_system_time() {
        // What lies beyond the year 9999 cannot be written so.
        Some(time) if time < SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800) => {
            humantime::format_rfc3339_millis(time).to_string()
        }
        _ => "9999-12-31T23:59:59.999Z".into(),
    }
}

/// The state of the lock, in words: for how long already, and for how much longer.
fn until(row: &LockRow) -> String {
    let ago = |time: StoreTime| span(row.now.since(time));
    match (row.state(), row.expires_in()) {
        (LockState::Held | LockState::Resting, None) => "forever".into(),
        (LockState::Held, Some(left)) => format!("expires in {}", span(left)),
        (LockState::Resting, Some(left)) => format!("free in {}", span(left)),
        (LockState::Free, _) => format!("released {} ago", ago(row.released_at.unwrap_or(row.expires_at))),
        (LockState::Expired, _) => format!("expired {} ago", ago(row.expires_at)),
        (state, _) => state.as_str().into(),
    }
}

/// For how much longer a holder has the lock, in words.
pub(crate) fn how_long(holder: &Holder) -> String {
    holder.expires_in.map_or("forever".into(), |left| format!("for at most {} more", span(left)))
}

/// By when the holder of a lock that was released by force notices, in words: it renews at least three times in a TTL; where
/// it does not renew, it only knows when its lease ends.
pub(crate) fn notices(row: &LockRow) -> String {
    match (row.ttl, row.expires_in()) {
        (Some(ttl), Some(left)) => format!(
            "it notices at its next renewal, within {}, or without renewal when its lease ends, in {}",
            span(ttl / 3),
            span(left)
        ),
        _ => "its lease never ends, so it may not notice before it releases the lock".into(),
    }
}

/// A table of locks, one per line.
pub(crate) fn table(rows: &[LockRow]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["NAME", "STATE", "HOLDER", "ACQUIRED", "HELD FOR", "UNTIL"]);
    for row in rows {
        table.add_row([
            row.lock_id.to_string(),
            row.state().as_str().into(),
            row.holder.to_string(),
            format!("{} ago", span(row.acquired_ago())),
            span(row.held_for()),
            until(row),
        ]);
    }
    trim_lines(&table.to_string())
}

/// One lock, one field per line.
pub(crate) fn facts(row: &LockRow) -> String {
    let state = row.state();
    let ends = row.ends_at().map_or_else(|| "never".to_owned(), timestamp);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let who = if state == LockState::Held { "holder" } else { "last holder" };
    table.add_row(["lock", row.lock_id.as_str()]);
    table.add_row(["state", &format!("{} ({})", state.as_str(), until(row))]);
    table.add_row([who, row.holder.as_str()]);
    table.add_row(["acquired", &format!("{} ({} ago)", timestamp(row.acquired_at), span(row.acquired_ago()))]);
    if let Some(released) = row.released_at {
        table.add_row(["released", &timestamp(released)]);
    }
    match state {
        LockState::Held => table.add_row(["expires", &ends]),
        LockState::Expired => table.add_row(["expired", &ends]),
        LockState::Resting => table.add_row(["rests until", &ends]),
        _ => &mut table,
    };
    table.add_row(["held for", &span(row.held_for())]);
    table.add_row(["fence", &row.fence.to_string()]);
    trim_lines(&table.to_string())
}

fn trim_lines(text: &str) -> String {
    text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect::<Vec<_>>().join("\n")
}

/// Whole milliseconds, for machines.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A lock for machines. Times are RFC 3339 in UTC by the database's clock, durations whole milliseconds; `null` where
/// there is no such time: a lock that never expires, one that was not released, or one that was released without a rest.
pub(crate) fn to_json(row: &LockRow) -> Value {
    json!({
        "lock_id": row.lock_id.as_str(),
        "state": row.state().as_str(),
        "holder": row.holder.as_str(),
        "fence": row.fence.get(),
        "acquired_at": timestamp(row.acquired_at),
        "released_at": row.released_at.map(timestamp),
        "expires_at": row.ends_at().map(timestamp),
        "held_for_ms": millis(row.held_for()),
        "expires_in_ms": row.expires_in().map(millis),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        assert_eq!(span(Duration::from_millis(412)), "412ms");
        assert_eq!(span(Duration::from_millis(1_999)), "1s");
        assert_eq!(span(Duration::from_secs(3_723)), "1h 2m");
        assert_eq!(span(Duration::ZERO), "0ms");
    }

    #[test]
    fn timestamps_are_utc_and_never_overflow() {
        assert_eq!(timestamp(StoreTime::ZERO), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(StoreTime::from_micros(1_577_836_800_123_456)), "2020-01-01T00:00:00.123Z");
        assert_eq!(timestamp(StoreTime::NEVER), "9999-12-31T23:59:59.999Z");
    }
}
