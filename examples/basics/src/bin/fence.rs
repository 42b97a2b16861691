//! The fencing token in an `UPDATE` refuses the late write of a holder that has lost its lock.
//!
//! This works for every resource that can compare numbers, in another database too.
//!
//! ```text
//! web-1 acquires the lock, and is suspended
//! web-2 acquires the lock, and writes: 1 row
//! web-1 continues, and writes: 0 rows
//! the report was written by web-2
//! ```

use std::error::Error;
use std::time::Duration;

use db_mutex::Fence;
use db_mutex::sqlite::rusqlite::Connection;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mutex = db_mutex::connect("sqlite:locks.db").await?;
    let data = Connection::open_in_memory()?;
    data.execute_batch("CREATE TABLE report (content TEXT, fence INTEGER); INSERT INTO report VALUES ('', 0)")?;

    let first = mutex.lock("report").acquire().await?;
    println!("web-1 acquires the lock, and is suspended");

    // Its lease ends while it stands still. Here an operator is quicker.
    mutex.force_release("report").await?;
    let second = mutex.lock("report").acquire().await?;
    println!("web-2 acquires the lock, and writes: {} row", write(&data, "web-2", second.fence())?);

    println!("web-1 continues, and writes: {} rows", write(&data, "web-1", first.fence())?);
    let content: String = data.query_row("SELECT content FROM report", (), |row| row.get(0))?;
    println!("the report was written by {content}");

    drop(first); // Its lock is lost.
    second.release().await?;
    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// Writes unless a later holder has written. Several writes of one holder have the same token, so `<=`.
fn write(data: &Connection, content: &str, fence: Fence) -> Result<usize, db_mutex::sqlite::rusqlite::Error> {
    data.execute("UPDATE report SET content = ?1, fence = ?2 WHERE fence <= ?2", (content, fence.get()))
}
