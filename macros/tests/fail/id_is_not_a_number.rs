use db_mutex::{Error, db_mutex};

#[db_mutex(5)]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
