use db_mutex::db_mutex;

#[db_mutex("job", blocking)]
fn nothing() {}

#[db_mutex("job", blocking)]
fn number() -> u8 {
    1
}

fn main() {}
