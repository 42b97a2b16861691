use db_mutex::{Error, db_mutex};

#[db_mutex("job")]
async fn job() -> Result<(), Error> {
    guard.extend(std::time::Duration::from_secs(1)).await
}

fn main() {}
