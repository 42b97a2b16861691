//! Stores on databases that db-mutex does not come with, all but one made with the kit `db_mutex::store::cas`: four operations.
//!
//! | file | database | clock |
//! |---|---|---|
//! | `files` | a directory, for the processes of one machine | the machine's |
//! | `redis` | Redis or Valkey, a Lua script for each operation | the server's |
//! | `objects` | object stores with conditional writes, through the crate `object_store` | the clients' |
//! | `etcd` | etcd, through its gateway for JSON | the clients' |
//! | `without_the_kit` | the directory again, as a `LockStore` written by hand: for a database that has transactions, or locks | the machine's |
//! | `names` | names of files and objects for any lock id | |
//!
//! `tests/` runs the conformance suite on each; `scripts/test-stores` starts the servers for it.

#![allow(missing_docs, reason = "the modules say it")]

pub mod etcd;
pub mod files;
mod names;
pub mod objects;
pub mod redis;
pub mod without_the_kit;
