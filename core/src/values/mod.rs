//! The validated value types of requests and answers. They depend on nothing else in this crate.

mod clock;
mod fence;
mod holder_name;
mod id;
mod invalid;
mod lost;
mod owner;
mod table;
mod time;
mod ttl;
mod wait;

pub use clock::{ClientTime, Clock, ManualClock, SystemClock};
pub use fence::Fence;
pub use holder_name::HolderName;
pub use id::LockId;
pub use invalid::Invalid;
pub use lost::LostReason;
pub use owner::OwnerToken;
pub use table::TableName;
pub use time::{StoreTime, duration_from_micros, duration_to_micros};
pub use ttl::Ttl;
pub use wait::WaitLimit;
