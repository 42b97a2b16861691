//! Which statements db-mutex sends for a pair. The bare subjects send the same texts, so they cannot fall behind the store.

use std::sync::Mutex;
use std::time::Duration;

use mysql_async::prelude::Queryable;

use crate::spec::{Failure, Sample, Spec};
use crate::subjects::db_mutex::connect;
use crate::worker::Start;

/// In the texts, `{table}` stands for the table.
pub(crate) async fn statements(spec: &Spec) -> Result<Sample, Failure> {
    let seen = if spec.url.starts_with("postgres") { on_postgres(spec).await? } else { on_mysql(spec).await? };
    let mut sample = Sample::default();
    for text in seen {
        let name = if text.contains("released_by = r.own") || text.contains("'released' AS verdict") {
            "delete"
        } else if text.contains("INSERT INTO") {
            "insert"
        } else {
            continue;
        };
        sample.texts.insert(name.into(), text.replace(&spec.table, "{table}"));
    }
    let running = Start.wait()?;
    running.end(&mut sample)?;
    Ok(sample)
}

async fn pair(spec: &Spec) -> Result<(), Failure> {
    let mutex = connect(spec).await?;
    mutex.lock("seen").acquire().await?.release().await?;
    mutex.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

/// tokio-postgres logs what it prepares.
async fn on_postgres(spec: &Spec) -> Result<Vec<String>, Failure> {
    static PREPARED: Prepared = Prepared(Mutex::new(Vec::new()));
    log::set_logger(&PREPARED)?;
    log::set_max_level(log::LevelFilter::Debug);
    pair(spec).await?;
    let seen = PREPARED.0.lock().map_err(|_| "poisoned")?.clone();
    Ok(seen)
}

struct Prepared(Mutex<Vec<String>>);

impl log::Log for Prepared {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("tokio_postgres::prepare")
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        // "preparing query s0 with types [..]: WITH …"
        if let (true, Some((_, sql))) =
            (self.enabled(record.metadata()), text.split_once("]: ").or(text.split_once(": ")))
            && let Ok(mut seen) = self.0.lock()
        {
            seen.push(sql.to_owned());
        }
    }

    fn flush(&self) {}
}

/// MySQL and MariaDB write what they prepare to the general log, which can be a table.
async fn on_mysql(spec: &Spec) -> Result<Vec<String>, Failure> {
    let mut connection = mysql_async::Conn::new(mysql_async::Opts::from_url(&spec.url)?).await?;
    connection.query_drop("SET GLOBAL log_output = 'TABLE'").await?;
    connection.query_drop("SET GLOBAL general_log = 1").await?;
    let done = pair(spec).await;
    connection.query_drop("SET GLOBAL general_log = 0").await?;
    done?;
    let seen: Vec<Vec<u8>> =
        connection.query("SELECT argument FROM mysql.general_log WHERE command_type = 'Prepare'").await?;
    connection.query_drop("TRUNCATE mysql.general_log").await?;
    Ok(seen.into_iter().map(|text| String::from_utf8_lossy(&text).into_owned()).collect())
}
