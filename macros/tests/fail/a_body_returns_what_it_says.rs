use db_mutex::{Error, db_mutex};

#[db_mutex("job")]
async fn job() -> Result<u32, Error> {
    println!("done");
}

fn main() {}
