use db_mutex::{Error, db_mutex};

#[db_mutex("job", timeout = "30s", mutex = m, auto_renew, lock_id = "job")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
