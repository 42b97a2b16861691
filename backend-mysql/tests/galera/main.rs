//! A cluster of three Galera nodes that all accept writes: `scripts/databases up galera-1 galera-2 galera-3`.

#![allow(clippy::unwrap_used, reason = "what a test does not expect ends it")]

mod cluster;
mod grants;
mod kills;
mod lag;
mod verify;
