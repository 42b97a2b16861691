//! What the MySQL and PostgreSQL backends of [db-mutex](https://docs.rs/db-mutex) share. Not meant for direct use: it
//! changes whenever they need it to.
//!
//! | file | idea |
//! |---|---|
//! | `url` | [`ServerUrl`]: the URL of a server, split into its parts |
//! | `address` | [`ServerAddress`]: where a URL leads, without its password |
//! | `engine` | [`Verdict`](engine::Verdict): whether locks can be kept in the engine that a server is |
//! | `hosts` | several servers in one URL |
//! | `parameter` | [`Parameter`]: one `name=value` of a URL, and how its errors are worded |
//! | `percent` | percent encoding |
//! | `sending` | [`Sending`]: how long an answer is waited for, and which connections are not used any more |
//! | `tls` | the provider of cryptography, and the certificate authorities |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
pub mod engine;
pub mod hosts;
mod parameter;
mod percent;
mod sending;
#[cfg(feature = "_rustls")]
pub mod tls;
mod url;

pub use address::{Password, ServerAddress, shown};
pub use parameter::Parameter;
pub use percent::encode;
pub use sending::Sending;
pub use url::{Host, ServerUrl};

use db_mutex_core::Invalid;

/// The error for a TLS mode in a build without TLS. `parameter` is what selects plain text, such as `sslmode=disable`.
#[must_use]
pub fn tls_is_not_compiled_in(parameter: &str) -> Invalid {
    invalid(format!(
        "it asks for TLS, which is not compiled in; enable the feature `tls-ring` or `tls-aws-lc-rs`, or write \
         {parameter} if plain text will do"
    ))
}

/// An invalid URL. `reason` must not contain a password.
#[must_use]
pub fn invalid(reason: impl Into<String>) -> Invalid {
    Invalid::Url { reason: reason.into() }
}
