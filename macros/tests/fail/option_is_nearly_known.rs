use db_mutex::{Error, db_mutex};

#[db_mutex("job", tll = "30s", wiat = "5s", keepalive, hold_at_last = "1s", gaurd)]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
