use db_mutex::{Error, db_mutex};

#[db_mutex("job", hold_at_least = "1m", hold_at_most = "30s")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
