use db_mutex::{db_mutex};

#[db_mutex("job", on_held = "skip")]
async fn job() -> u32 {
    1
}

fn main() {}
