use db_mutex::{db_mutex};

#[db_mutex("job")]
async fn job() -> Result<(), String> {
    Ok(())
}

fn main() {}
