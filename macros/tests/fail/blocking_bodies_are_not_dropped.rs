use db_mutex::{Error, db_mutex};

#[db_mutex("job", on_lost = "drop", blocking)]
fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
