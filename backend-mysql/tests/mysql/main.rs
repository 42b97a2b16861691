//! What is special about MySQL and MariaDB: what is refused when a store is opened, the traps of InnoDB and of the driver,
//! and transactions of the user's own. The contract itself is shown by the conformance suite.

#![allow(clippy::unwrap_used, reason = "what a test does not expect ends it")]

#[path = "../servers/mod.rs"]
mod servers;

mod alone;
mod cancelled;
mod database;
mod dead;
mod engines;
mod forced;
mod hosts;
mod locked_rows;
mod many;
mod model;
mod no_room;
mod opening;
mod proxied;
mod repeats;
mod rights;
mod runtimes;
mod secrets;
mod stress;
mod tls;
mod traps;
mod verify;
mod wrong_clock;
