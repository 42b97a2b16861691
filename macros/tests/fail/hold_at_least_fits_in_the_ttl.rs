use db_mutex::{Error, db_mutex};

#[db_mutex("job", ttl = "30s", hold_at_least = "1m")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
