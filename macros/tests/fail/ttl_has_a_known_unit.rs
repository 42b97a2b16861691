use db_mutex::{Error, db_mutex};

#[db_mutex("job", ttl = "3w")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
