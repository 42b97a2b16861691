//! The rules of the crate `db-mutex-core` for values, which a macro has to know without it; `tests/rules.rs` compares them.

use std::time::Duration;

/// The most characters of a lock id.
pub(crate) const MAX_CHARS: usize = 256;
/// The shortest TTL.
pub(crate) const MIN_TTL: Duration = Duration::from_millis(100);
/// The longest TTL that ends.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// # Errors
/// What is wrong with a lock id, and what to do.
pub(crate) fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err(format!("it is empty; give it 1 to {MAX_CHARS} characters"));
    }
    check_part_of_id(id)
}

/// # Errors
/// What is wrong with the fixed text of a lock id, and what to do.
pub(crate) fn check_part_of_id(text: &str) -> Result<(), String> {
    if let Some((at, found)) = text.chars().enumerate().find(|(_, c)| c.is_control()) {
        let code = u32::from(found);
        return Err(format!("character {} is the control character U+{code:04X}; leave it out", at + 1));
    }
    match text.chars().count() {
        0..=MAX_CHARS => Ok(()),
        chars => Err(format!("it has {chars} characters; at most {MAX_CHARS} are allowed")),
    }
}
