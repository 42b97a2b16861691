use db_mutex::{Error, db_mutex};

#[db_mutex("job-{self.name}")]
async fn job() -> Result<(), Error> {
    Ok(())
}

fn main() {}
