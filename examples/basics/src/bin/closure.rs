//! A closure runs under a lock, and what it returns reaches the caller.
//!
//! ```text
//! run: 42 rows
//! run, while another holder has the lock: held
//! run_or_skip, while another holder has the lock: None
//! run, with an error of the closure: the file is missing
//! ```

use std::error::Error;
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mutex = db_mutex::connect("sqlite:locks.db").await?;

    let rows = mutex.run("import", async |_guard| 42).await?;
    println!("run: {rows} rows");

    let other = mutex.lock("import").acquire().await?;
    match mutex.run("import", async |_guard| 42).await {
        Err(error) if error.is_held() => println!("run, while another holder has the lock: held"),
        outcome => println!("run, while another holder has the lock: {outcome:?}"),
    }
    let skipped = mutex.run_or_skip("import", async |_guard| 42).await?;
    println!("run_or_skip, while another holder has the lock: {skipped:?}");
    other.release().await?;

    // The outer result is the lock's, the inner one the closure's.
    let outcome: Result<u32, &str> = mutex.run("import", async |_guard| Err("the file is missing")).await?;
    if let Err(error) = outcome {
        println!("run, with an error of the closure: {error}");
    }

    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
