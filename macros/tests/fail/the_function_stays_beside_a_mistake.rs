use db_mutex::{Error, db_mutex};

#[db_mutex("job", tll = "30s")]
async fn job() -> Result<(), Error> {
    Ok(())
}

struct Worker;

impl Worker {
    #[db_mutex("job", ttl = "1ms")]
    async fn work(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn main() {
    // Neither is reported to be missing.
    drop(job());
    drop(Worker.work());
}
