use db_mutex::{db_mutex};

#[db_mutex("job-{}-{0}", tll = "30s", ttl = "1ms", wait = 5, hold_at_least = "2w", on_held = "ignore", on_lost = drop, guard)]
fn job(guard: u32) {}

fn main() {}
