use db_mutex::{Error, db_mutex};

#[db_mutex("job", guard, blocking)]
fn job() -> Result<(), Error> {
    other().await
}

async fn other() -> Result<(), Error> {
    Ok(())
}

fn main() {}
