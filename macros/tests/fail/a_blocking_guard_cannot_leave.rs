use db_mutex::blocking::Guard;
use db_mutex::{Error, db_mutex};

#[db_mutex("job", guard, blocking)]
fn job<'a>() -> Result<&'a Guard, Error> {
    Ok(guard)
}

fn main() {}
