use db_mutex::{Error, db_mutex};

#[db_mutex("job", ttl, wait, store, on_held, crate)]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
