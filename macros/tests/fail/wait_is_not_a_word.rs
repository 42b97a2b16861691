use db_mutex::{Error, db_mutex};

#[db_mutex("job", wait = "soon")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
