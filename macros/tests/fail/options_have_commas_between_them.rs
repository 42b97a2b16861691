use db_mutex::{Error, db_mutex};

#[db_mutex("job" ttl = "30s" wait = "5s")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
