//! The attribute in a crate that has renamed db-mutex.
