use db_mutex::{db_mutex};

#[db_mutex("job")]
async fn job() -> ! {
    std::future::pending().await
}

fn main() {}
