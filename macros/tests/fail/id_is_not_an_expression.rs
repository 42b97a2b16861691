use db_mutex::{Error, db_mutex};

#[db_mutex(format!("job"), ttl = "30s")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
