use db_mutex::{Error, db_mutex};

#[db_mutex("job", on_held = "ignore")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
