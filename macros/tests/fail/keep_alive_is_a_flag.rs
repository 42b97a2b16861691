use db_mutex::{Error, db_mutex};

#[db_mutex("job", keep_alive = "yes")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
