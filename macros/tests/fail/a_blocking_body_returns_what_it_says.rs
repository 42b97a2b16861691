use db_mutex::{Error, db_mutex};

#[db_mutex("job", blocking)]
fn job() -> Result<u8, Error> {
    Ok("a string")
}

fn main() {}
