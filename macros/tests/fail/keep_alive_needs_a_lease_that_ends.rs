use db_mutex::{Error, db_mutex};

#[db_mutex("job", ttl = "none", keep_alive)]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
