use std::fmt;
use std::sync::Arc;

use super::Invalid;

/// A human-readable description of a holder: free text of at most 256 characters, without control characters.
///
/// It is only information: the [`OwnerToken`](crate::OwnerToken) proves who holds a lock. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HolderName(Arc<str>);

impl HolderName {
    /// The maximum length of the text in characters (Unicode scalar values, not bytes).
    pub const MAX_CHARS: usize = 256;

    /// Validates `text`.
    ///
    /// # Errors
    /// [`Invalid::HolderName`] if it is too long or has a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
        let text = text.as_ref();
        if text.chars().any(char::is_control) {
            return Err(Invalid::HolderName { reason: "it has a control character; leave it out".into() });
        }
        match text.chars().count() {
            0..=Self::MAX_CHARS => Ok(Self(text.into())),
            chars => Err(Invalid::HolderName {
                reason: format!("it has {chars} characters; at most {} are allowed", Self::MAX_CHARS),
            }),
        }
    }

    /// Reads a text from a store, which another program may have written: control characters become `?`, and a long text is
    /// cut.
    pub fn lossy(text: &str) -> Self {
        let kept = text.chars().take(Self::MAX_CHARS).map(|c| if c.is_control() { '?' } else { c });
        Self(kept.collect::<String>().into())
    }

    /// This process, as in `web-1 pid 4711`.
    pub fn of_this_process() -> Self {
        let host: String = rustix::system::uname().nodename().to_string_lossy().chars().take(200).collect();
        Self::lossy(&format!("{host} pid {}", std::process::id()))
    }

    /// Returns the text followed by a label, as in `web-1 pid 4711: nightly report`.
    ///
    /// # Errors
    /// Same as [`new`](Self::new).
    pub fn labelled(&self, label: &str) -> Result<Self, Invalid> {
        Self::new(format!("{self}: {label}"))
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for HolderName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_bounded_and_printable() {
        assert!(HolderName::new("é".repeat(256)).is_ok());
        assert!(HolderName::new("é".repeat(257)).is_err());
        assert!(HolderName::new("a\tb").is_err());
    }

    #[test]
    fn this_process_is_named_by_host_and_pid() {
        let text = HolderName::of_this_process();
        assert!(text.as_str().ends_with(&format!(" pid {}", std::process::id())), "{text}");
        assert!(text.labelled("nightly").unwrap().as_str().ends_with(": nightly"));
    }
}
