//! Durations as text: `"30s"`, `"1h30m"`, `"500ms"`.

use std::time::Duration;

/// The units, in the order in which they are written, with their length in milliseconds.
const UNITS: &[(&str, u64)] =
    &[("d", 24 * 60 * 60 * 1000), ("h", 60 * 60 * 1000), ("m", 60 * 1000), ("s", 1000), ("ms", 1)];

/// Parses whole numbers with units, the longest unit first.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const EXAMPLES: &str = "write for example \"500ms\", \"30s\" or \"1h30m\"";
    if text.trim().is_empty() {
        return Err(format!("a duration is missing; {EXAMPLES}"));
    }
    let mut rest = text.trim_start();
    let mut units = UNITS;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit());
        let (unit, after) = split(after, |c| !c.is_ascii_digit());
        let unit = unit.trim();
        if number.is_empty() {
            return Err(format!("`{text}` is not a duration; {EXAMPLES}"));
        }
        if unit.is_empty() {
            return Err(format!("`{number}` has no unit; write \"{number}s\" for seconds, or \"{number}ms\""));
        }
        if unit.starts_with('.') {
            return Err(format!("`{text}` has a fraction; write it in the next smaller unit, for example \"1s500ms\""));
        }
        let Some(at) = units.iter().position(|(name, _)| *name == unit) else {
            return Err(unknown(unit));
        };
        let (_, length) = units[at];
        units = &units[at + 1..];
        let sum = number.parse().ok().and_then(|number: u64| number.checked_mul(length)?.checked_add(total));
        let Some(sum) = sum else { return Err(format!("`{text}` is too long; at most \"365d\" makes sense")) };
        (total, rest) = (sum, after);
    }
    Ok(Duration::from_millis(total))
}

/// Splits off the longest beginning of which each character `belongs`.
fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn unknown(unit: &str) -> String {
    if UNITS.iter().any(|(name, _)| *name == unit) {
        return "units go from long to short, each once: \"1h30m\"".into();
    }
    let meant = match unit.to_lowercase().as_str() {
        "day" | "days" => Some("d"),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
        _ => None,
    };
    match meant {
        Some(meant) => format!("unknown unit `{unit}`; did you mean `{meant}`?"),
        None => format!("unknown unit `{unit}`; the units are d, h, m, s and ms"),
    }
}

/// A duration as [`parse`] reads it.
pub(crate) fn show(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, length) in UNITS {
        if left >= *length {
            text.push_str(&format!("{}{unit}", left / length));
            left %= length;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up() {
        let cases = [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("365d", 31_536_000_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("", "missing"),
            (" ", "missing"),
            ("30", "\"30s\""),
            ("1h30", "`30` has no unit"),
            ("s", "not a duration"),
            ("-5s", "not a duration"),
            ("1.5s", "fraction"),
            ("5 minutes", "did you mean `m`?"),
            ("5S", "did you mean `s`?"),
            ("3w", "`w`; the units"),
            ("30m1h", "long to short"),
            ("1s1s", "long to short"),
            ("99999999999999999999s", "too long"),
            ("999999999999999999d", "too long"),
        ];
        for (text, part) in cases {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_is_written() {
        for text in ["0s", "500ms", "30s", "1h30m", "1d2h3m4s5ms", "365d"] {
            assert_eq!(parse(text).map(show), Ok(text.to_owned()));
        }
    }
}
