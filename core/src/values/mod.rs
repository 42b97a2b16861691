//! The validated values that requests and answers consist of. They depend on nothing else here.

mod clock;
mod fence;
mod holder;
mod id;
mod invalid;
mod lost;
mod owner;
mod table;
mod time;
mod ttl;
mod wait;

pub use clock::{Clock, ManualClock, SystemClock};
pub use fence::Fence;
pub use holder::HolderText;
pub use id::LockId;
pub use invalid::Invalid;
pub use lost::LostReason;
pub use owner::OwnerToken;
pub use table::TableName;
pub use time::NEVER_US;
pub use ttl::Ttl;
pub use wait::WaitLimit;
