use std::fmt;

use db_mutex_core::Invalid;

use crate::invalid;

/// One `name=value` of a URL, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The name as it was written.
    pub name: String,
    /// The value.
    pub value: String,
    /// Whether this may be a part of the password instead, so that no error may show any of it.
    pub(crate) may_be_secret: bool,
    /// Whether the value contains the password or a part of it, so that no error may show it.
    pub(crate) value_is_secret: bool,
}

impl Parameter {
    /// The error for a parameter that is not known. It lists those that are and does not show the value, which may be a
    /// secret.
    #[must_use]
    pub fn unknown<'a>(&self, known: impl IntoIterator<Item = &'a str>) -> Invalid {
        let known: Vec<_> = known.into_iter().collect();
        self.error(format!("unknown parameter `{}`; the known ones are {}", self.name, known.join(", ")))
    }

    /// The error for an invalid value. It shows the value, so it must not be used for a secret. `advice` says what is
    /// allowed, such as `write true or false`.
    #[must_use]
    pub fn invalid(&self, advice: &str) -> Invalid {
        if self.value_is_secret {
            return self.error(format!("parameter `{}` has an invalid value; {advice}", self.name));
        }
        self.error(format!("parameter `{}` is {}; {advice}", self.name, shortened(&self.value)))
    }

    /// The error for a parameter that is valid by itself but not beside the others.
    #[must_use]
    pub fn conflict(&self, reason: &str) -> Invalid {
        self.error(format!("parameter `{}` {reason}", self.name))
    }

    fn error(&self, reason: String) -> Invalid {
        if self.may_be_secret { ambiguous() } else { invalid(reason) }
    }
}

/// The value may be a secret.
impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameter").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The error for a URL of which nothing after the host may be shown.
pub(crate) fn ambiguous() -> Invalid {
    invalid(
        "something after its host is invalid, and is not shown because it may be a part of the password; in the user and \
         password write %40 for `@`, %2F for `/` and %3F for `?`",
    )
}

/// Text in quotes, on one line and of bounded length.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{:?}…", &text[..at]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_parameter_and_say_what_is_allowed() {
        let parameter =
            Parameter { name: "sslmode".into(), value: "may\nbe".into(), may_be_secret: false, value_is_secret: false };
        let message = parameter.invalid("write disable or require").to_string();
        assert_eq!(message, r#"invalid database url: parameter `sslmode` is "may\nbe"; write disable or require"#);
        let message = parameter.unknown(["host", "port"]).to_string();
        assert_eq!(message, "invalid database url: unknown parameter `sslmode`; the known ones are host, port");
        assert!(!format!("{parameter:?}").contains("may"));
    }

    #[test]
    fn long_values_are_cut() {
        let parameter =
            Parameter { name: "sslmode".into(), value: "ü".repeat(500), may_be_secret: false, value_is_secret: false };
        assert!(parameter.invalid("write disable").to_string().len() < 200);
    }
}
