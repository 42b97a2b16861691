use db_mutex::{Error, db_mutex};

#[db_mutex("job", store = name)]
async fn job(name: &str) -> Result<(), Error> {
    Ok(())
}

fn main() {}
