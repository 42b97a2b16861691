use db_mutex::{Error, db_mutex};

#[db_mutex("nightly\njob")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
