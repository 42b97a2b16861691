use db_mutex::{Error, db_mutex};

#[db_mutex("job\t{id}")]
async fn job(id: u32) -> Result<(), Error> {
    Ok(())
}

fn main() {}
