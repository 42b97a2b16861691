use db_mutex::{Error, db_mutex};

#[db_mutex("job", wait = "forever", on_held = "skip")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
