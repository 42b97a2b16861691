use db_mutex::{Error, db_mutex};

#[db_mutex("job", guard = "guard")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
