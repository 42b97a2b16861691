use db_mutex::{Error, db_mutex};

#[db_mutex("job", on_held = "skip")]
async fn job() -> Result<u32, Error> {
    Ok(1)
}

fn main() {}
