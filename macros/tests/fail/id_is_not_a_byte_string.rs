use db_mutex::{Error, db_mutex};

#[db_mutex(b"job")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
