use db_mutex::{db_mutex};

#[db_mutex("job")]
async fn job() -> u32 {
    1
}

fn main() {}
