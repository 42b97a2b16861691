use db_mutex::{Error, db_mutex};

const JOB: &str = "job";

#[db_mutex(JOB, ttl = "30s")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
