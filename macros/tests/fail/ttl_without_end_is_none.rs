use db_mutex::{Error, db_mutex};

#[db_mutex("job", ttl = "never")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
