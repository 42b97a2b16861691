use db_mutex::{Error, db_mutex};

#[db_mutex("job", 5, ttl = "30s")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
