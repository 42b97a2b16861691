use db_mutex::{Error, Guard, db_mutex};

#[db_mutex("job", guard)]
async fn job() -> Result<&'static Guard, Error> {
    Ok(guard)
}

fn main() {}
