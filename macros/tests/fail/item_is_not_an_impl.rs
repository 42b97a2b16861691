use db_mutex::{Error, db_mutex};

struct Job;

#[db_mutex("job")]
impl Job {
    async fn work(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn main() {}
