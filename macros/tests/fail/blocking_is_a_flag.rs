use db_mutex::{Error, db_mutex};

#[db_mutex("job", blocking = "yes")]
fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
