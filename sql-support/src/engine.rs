//! Which engine a server is, and whether locks can be kept in it.

use db_mutex_core::{Invalid, StoreError, StoreErrorKind};

use crate::Parameter;

/// The parameter of a URL, and the method of the builders, that lets an engine through which would be refused.
pub const ALLOW_UNSUPPORTED_ENGINE: &str = "allow_unsupported_engine";

/// What a backend thinks of the engine that it is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It keeps the contract.
    Kept,
    /// It keeps the contract under a condition.
    Partly {
        /// Its name.
        engine: String,
        /// The condition, as the end of a sentence that begins with "locks hold".
        condition: &'static str,
    },
    /// It cannot keep the contract.
    Refused {
        /// Its name, perhaps with its version.
        engine: String,
        /// Why not: "it …".
        reason: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
}

impl Verdict {
    /// An engine that cannot keep the contract is an error, unless `allowed`. One that keeps it in part is logged.
    ///
    /// # Errors
    /// [`StoreErrorKind::Config`], which says why the engine is refused and what to do.
    pub fn enforce(self, allowed: bool) -> Result<(), StoreError> {
        match self {
            Self::Kept => Ok(()),
            Self::Partly { engine, condition } => {
                tracing::warn!("the database server is {engine}: locks hold {condition}");
                Ok(())
            }
            Self::Refused { engine, reason, .. } if allowed => {
                tracing::warn!("the database server is {engine}, where locks may not hold: {reason}");
                Ok(())
            }
            Self::Refused { engine, reason, advice } => {
                let message = format!(
                    "the database server is {engine}, where locks do not hold: {reason}; {advice}, or set \
                     `{ALLOW_UNSUPPORTED_ENGINE}` to use it at your own risk"
                );
                Err(StoreError::new(StoreErrorKind::Config, message))
            }
        }
    }
}

/// Reads the parameter [`ALLOW_UNSUPPORTED_ENGINE`].
///
/// # Errors
/// When it is neither `true` nor `false`.
pub fn allows_unsupported_engine(parameter: &Parameter) -> Result<bool, Invalid> {
    match parameter.value.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(parameter.invalid("write true or false")),
    }
}

/// The first two numbers of a version that a text begins with: `10.11` of `10.11.19-MariaDB`, `16.0` of `16beta1`.
#[must_use]
pub fn version_at_start(text: &str) -> Option<(u32, u32)> {
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let mut numbers = text[..end].split('.').map(str::parse);
    let major = numbers.next()?.ok()?;
    Some((major, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_which_engine_why_and_what_to_do() {
        let refused =
            Verdict::Refused { engine: "ThatDB 7".into(), reason: "it forgets", advice: "use another database" };
        let error = refused.clone().enforce(false).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config);
        assert_eq!(
            error.to_string(),
            "the database server is ThatDB 7, where locks do not hold: it forgets; use another database, or set \
             `allow_unsupported_engine` to use it at your own risk"
        );
        assert!(refused.enforce(true).is_ok());
    }

    #[test]
    fn versions_are_read() {
        for (text, version) in [
            ("10.11.19-MariaDB-0+deb12u1", Some((10, 11))),
            ("9.7.4", Some((9, 7))),
            ("16beta1 on x86_64", Some((16, 0))),
            ("15.18 (Debian 15.18-0+deb12u1)", Some((15, 18))),
            ("16", Some((16, 0))),
            ("CCL v25.1", None),
            ("", None),
        ] {
            assert_eq!(version_at_start(text), version, "{text}");
        }
    }
}
