use db_mutex::{Error, db_mutex};

#[db_mutex("job", suppress_acquisition_exceptions = True)]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
