use db_mutex::{db_mutex};

#[db_mutex("job", on_held = "skip")]
async fn job() -> Result<(), String> {
    Ok(())
}

fn main() {}
