use db_mutex::{Error, db_mutex};

trait Worker {
    #[db_mutex("job")]
    async fn work(&self) -> Result<(), Error>;
}

fn main() {}
