/// The time that means "never", in microseconds since 1970.
pub const NEVER_US: i64 = i64::MAX;
