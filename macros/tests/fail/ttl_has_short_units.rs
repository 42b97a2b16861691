use db_mutex::{Error, db_mutex};

#[db_mutex("job", ttl = "5min")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
