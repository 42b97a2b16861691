//! What a worker does with a subject.
//!
//! | file | measures |
//! |---|---|
//! | `load.rs` | pairs of acquire and release as fast as they go |
//! | `hand_over.rs` | how long after a release the next has the lock |
//! | `refused.rs` | attempts at a lock that is held |
//! | `many.rs` | thousands of locks that are held, and of waiters |
//! | `statements.rs` | which statements the store sends |

mod hand_over;
mod load;
mod many;
mod refused;
mod statements;

pub(crate) use hand_over::hand_over;
pub(crate) use load::load;
pub(crate) use many::{leases, waiters};
pub(crate) use refused::refused;
pub(crate) use statements::statements;
