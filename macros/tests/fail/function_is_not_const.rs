use db_mutex::{Error, db_mutex};

#[db_mutex("job")]
const fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
