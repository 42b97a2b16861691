use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Invalid;

/// The name of a lock: 1 to 256 characters, without control characters.
///
/// Two ids are the same lock exactly when their UTF-8 bytes are equal. An id is never trimmed, folded, normalised, cut
/// or hashed: `job`, `Job` and `job ` are three locks. Cheap to clone.
///
/// ```
/// use db_mutex_core::LockId;
///
/// let id = LockId::new("billing:nightly")?;
/// assert_eq!(id.as_str(), "billing:nightly");
/// assert!(LockId::new("").is_err());
/// # Ok::<_, db_mutex_core::Invalid>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockId(Arc<str>);

impl LockId {
    /// The maximum length of an id in characters (Unicode scalar values, not bytes).
    pub const MAX_CHARS: usize = 256;

    /// Validates `id`.
    ///
    /// # Errors
    /// [`Invalid::LockId`] if it is empty, longer than [`MAX_CHARS`](Self::MAX_CHARS), or has a control character, such as
    /// NUL or a line break.
    pub fn new(id: impl AsRef<str>) -> Result<Self, Invalid> {
        let id = id.as_ref();
        let refuse = |reason: String| Err(Invalid::LockId { id: id.chars().take(40).collect(), reason });
        if id.is_empty() {
            return refuse("it is empty; give it 1 to 256 characters".into());
        }
        if let Some((at, found)) = id.chars().enumerate().find(|(_, c)| c.is_control()) {
            return refuse(format!(
                "character {} is the control character U+{:04X}; leave it out",
                at + 1,
                u32::from(found)
            ));
        }
        match id.chars().count() {
            0..=Self::MAX_CHARS => Ok(Self(id.into())),
            chars => refuse(format!("it has {chars} characters; at most {} are allowed", Self::MAX_CHARS)),
        }
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl AsRef<str> for LockId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for LockId {
    type Err = Invalid;

    fn from_str(id: &str) -> Result<Self, Invalid> {
        Self::new(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        assert!(LockId::new("😀".repeat(256)).is_ok());
        assert!(LockId::new("a".repeat(257)).is_err());
        assert!(LockId::new("").is_err());
    }

    #[test]
    fn control_characters_are_named_and_never_echoed() {
        for bad in ["a\0b", "a\nb", "\u{7f}", "a\u{85}b"] {
            let message = LockId::new(bad).unwrap_err().to_string();
            assert!(message.contains("U+00"), "{message}");
            assert!(!message.contains(char::is_control), "{message:?}");
        }
    }

    #[test]
    fn nothing_is_normalised() {
        assert_ne!(LockId::new("job").unwrap(), LockId::new("Job").unwrap());
        assert_ne!(LockId::new("job").unwrap(), LockId::new("job ").unwrap());
        assert_ne!(LockId::new("\u{e9}").unwrap(), LockId::new("e\u{301}").unwrap());
    }
}
