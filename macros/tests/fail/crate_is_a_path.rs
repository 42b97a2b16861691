use db_mutex::{Error, db_mutex};

#[db_mutex("job", crate = "locks")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
