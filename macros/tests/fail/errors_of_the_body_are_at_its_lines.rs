use db_mutex::{Error, db_mutex};

#[db_mutex("job")]
async fn job() -> Result<u32, Error> {
    let text: String = 5;
    if text.is_empty() {
        return Ok("early");
    }
    unknown();
    Ok("late")
}

fn main() {}
