use db_mutex::{Error, db_mutex};

const TTL: &str = "30s";

#[db_mutex("job", ttl = TTL)]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
