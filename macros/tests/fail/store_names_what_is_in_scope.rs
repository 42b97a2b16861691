use db_mutex::{DbMutex, Error, db_mutex};

#[db_mutex("job", store = mutexx)]
async fn job(mutex: &DbMutex) -> Result<(), Error> {
    Ok(())
}

fn main() {}
