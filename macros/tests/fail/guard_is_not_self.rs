use db_mutex::{Error, db_mutex};

#[db_mutex("job", guard = self)]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
