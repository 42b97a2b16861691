use db_mutex::{Error, db_mutex};

#[db_mutex("job", store = #, ttl = "1ms")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
