use db_mutex::{Error, db_mutex};

#[tokio::main(flavor = "current_thread")]
#[db_mutex("job")]
async fn main() -> Result<(), Error> {
    Ok(())
}
