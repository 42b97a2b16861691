use db_mutex::{Error, db_mutex};

#[db_mutex("job", blocking)]
fn job() -> impl Future<Output = Result<(), Error>> {
    async move { Ok(()) }
}

fn main() {}
