//! A function runs under a lock whose id is made of its arguments.
//!
//! ```text
//! north: 5 rows imported
//! south: skipped, another holder imports it
//! report: held
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::{db_mutex, global};

#[db_mutex("import-{shop}", ttl = "30s", keep_alive, on_held = "skip")]
async fn import(shop: &str) -> Result<Option<usize>, db_mutex::Error> {
    Ok(Some(shop.len()))
}

#[db_mutex("report")]
async fn report() -> Result<(), db_mutex::Error> {
    println!("report: written");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    global::set(db_mutex::connect("sqlite:locks.db").await?)?;
    let mutex = global::get()?;

    let south = mutex.lock("import-south").acquire().await?;
    for shop in ["north", "south"] {
        match import(shop).await? {
            Some(rows) => println!("{shop}: {rows} rows imported"),
            None => println!("{shop}: skipped, another holder imports it"),
        }
    }
    south.release().await?;

    let other = mutex.lock("report").acquire().await?;
    match report().await {
        Err(error) if error.is_held() => println!("report: held"),
        outcome => outcome?,
    }
    other.release().await?;

    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
