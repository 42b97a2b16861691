use db_mutex::{Error, db_mutex};

#[db_mutex("job", guard)]
async fn job(guard: u32) -> Result<(), Error> {
    Ok(())
}

fn main() {}
