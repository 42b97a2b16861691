use db_mutex::{Error, db_mutex};

#[db_mutex("job", ttl = "99999999999999999999d")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
