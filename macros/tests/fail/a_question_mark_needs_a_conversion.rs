use db_mutex::{Error, db_mutex};

#[db_mutex("job")]
async fn job() -> Result<u32, Error> {
    Ok("5".parse()?)
}

fn main() {}
