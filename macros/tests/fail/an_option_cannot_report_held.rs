use db_mutex::{db_mutex};

#[db_mutex("job")]
async fn job() -> Option<u32> {
    Some(1)
}

fn main() {}
