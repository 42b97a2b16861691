use db_mutex::{Error, db_mutex};

#[db_mutex("job\0")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
