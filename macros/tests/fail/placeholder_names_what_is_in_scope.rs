use db_mutex::{Error, db_mutex};

#[db_mutex("job-{idd}")]
async fn job(id: u32) -> Result<(), Error> {
    Ok(())
}

fn main() {}
