use db_mutex::{db_mutex};

#[db_mutex("job")]
#[derive(Debug)]
pub struct Job;

fn main() {}
