use db_mutex::{Error, db_mutex};

#[db_mutex("job", hold_at_most = "0s")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
