//! The servers: where they are, what they count, how they are set.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mysql_async::prelude::Queryable;
use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use crate::cpu::Used;
use crate::spec::Failure;

/// Those that `scripts/databases` has started, and a folder for SQLite.
pub(crate) struct Servers {
    runtime: Runtime,
    servers: BTreeMap<String, Server>,
    sqlite: PathBuf,
}

/// Numbers that only grow.
pub(crate) type Counters = BTreeMap<&'static str, f64>;

struct Server {
    url: String,
    pid: u32,
}

/// What some statements cost: seconds of CPU of the database, and seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) cpu: f64,
    pub(crate) seconds: f64,
}

/// Reads the CPU while the connection is open: that of a process that has ended cannot be read any more.
struct Meter(Used, Instant);

impl Meter {
    fn new(servers: &Servers, name: &str) -> Self {
        Self(Self::used(servers, name), Instant::now())
    }

    fn used(servers: &Servers, name: &str) -> Used {
        if name == "sqlite" { Used::by_this_process() } else { servers.cpu(name) }
    }

    fn read(&self, servers: &Servers, name: &str) -> Cost {
        let seconds = self.1.elapsed().as_secs_f64();
        Cost { cpu: Self::used(servers, name).since(&self.0), seconds }
    }
}

impl Servers {
    /// `file` has a line for each server: its name, its URL, its folder.
    pub(crate) fn new(file: &Path, sqlite: PathBuf) -> Result<Self, Failure> {
        let mut servers = BTreeMap::new();
        for line in fs::read_to_string(file)?.lines() {
            let [name, url, folder] = line.split(' ').collect::<Vec<_>>()[..] else {
                return Err(format!("not a server: {line:?}").into());
            };
            let pid = fs::read_to_string(Path::new(folder).join("pid"))?.trim().parse()?;
            servers.insert(name.to_owned(), Server { url: url.to_owned(), pid });
        }
        fs::create_dir_all(&sqlite)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, servers, sqlite })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        name == "sqlite" || self.servers.contains_key(name)
    }

    /// Where a cell's table is; SQLite has a file for each.
    pub(crate) fn url(&self, name: &str, table: &str) -> Result<String, Failure> {
        if name == "sqlite" {
            return Ok(format!("sqlite:{}", self.file(table).display()));
        }
        let server = self.servers.get(name).ok_or_else(|| format!("the server {name:?} does not run"))?;
        Ok(server.url.clone())
    }

    fn file(&self, table: &str) -> PathBuf {
        self.sqlite.join(format!("{table}.db"))
    }

    /// The CPU that a server has used; SQLite's is that of its clients.
    pub(crate) fn cpu(&self, name: &str) -> Used {
        self.servers.get(name).map_or_else(Used::default, |server| Used::by_tree(server.pid))
    }

    fn postgres<T>(&self, work: impl AsyncFnOnce(&tokio_postgres::Client) -> Result<T, Failure>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url("postgres", "")?, NoTls).await?;
            let connection = tokio::spawn(connection);
            let done = work(&client).await;
            drop(client);
            connection.await??;
            done
        })
    }

    fn mysql<T>(
        &self,
        name: &str,
        work: impl AsyncFnOnce(&mut mysql_async::Conn) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.runtime.block_on(async {
            let mut connection = mysql_async::Conn::from_url(self.url(name, "")?).await?;
            let done = work(&mut connection).await;
            connection.disconnect().await?;
            done
        })
    }

    /// Runs statements, in order.
    pub(crate) fn execute(&self, name: &str, table: &str, statements: &[String]) -> Result<Cost, Failure> {
        match name {
            "postgres" => self.postgres(async |client| {
                let meter = Meter::new(self, name);
                for statement in statements {
                    client.batch_execute(statement).await?;
                }
                Ok(meter.read(self, name))
            }),
            "sqlite" => {
                let connection = rusqlite::Connection::open(self.file(table))?;
                connection.execute_batch("PRAGMA synchronous = NORMAL")?;
                let meter = Meter::new(self, name);
                for statement in statements {
                    connection.execute_batch(statement)?;
                }
                Ok(meter.read(self, name))
            }
            _ => self.mysql(name, async |connection| {
                let meter = Meter::new(self, name);
                for statement in statements {
                    connection.query_drop(statement).await?;
                }
                Ok(meter.read(self, name))
            }),
        }
    }

    /// Creates db-mutex's table, as its first user does.
    pub(crate) fn create(&self, name: &str, table: &str) -> Result<(), Failure> {
        let (url, table) = (self.url(name, table)?, db_mutex::TableName::new(table)?);
        self.runtime.block_on(async {
            let mutex = db_mutex::Connector::new(&url)?.table(table).connect().await?;
            mutex.shutdown(std::time::Duration::from_secs(1)).await;
            Ok(())
        })
    }

    /// Removes what a cell has left, so that no vacuum or purge of it runs beside the next.
    pub(crate) fn clear(&self, name: &str, table: &str) -> Result<(), Failure> {
        match name {
            "sqlite" => {
                for end in ["", "-wal", "-shm"] {
                    let _ = fs::remove_file(format!("{}{end}", self.file(table).display()));
                }
                Ok(())
            }
            "redis" | "redis-memory" => self.runtime.block_on(async {
                let client = redis::Client::open(self.url(name, "")?)?;
                let mut connection = client.get_multiplexed_async_connection().await?;
                Ok(redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?)
            }),
            "etcd-alone" => Ok(()),
            // The table that says which migrations were done, too.
            _ => self.execute(name, "", &[format!("DROP TABLE IF EXISTS {table}, {table}_versions")]).map(drop),
        }
    }

    /// What a server has written and done since it was started. PostgreSQL's sessions report when they end at the latest.
    pub(crate) fn counters(&self, name: &str, table: &str) -> Result<Counters, Failure> {
        match name {
            "postgres" => self.postgres(async |client| {
                let row = client
                    .query_one(
                        "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8,
                             (SELECT wal_sync::float8 FROM pg_stat_wal),
                             (SELECT coalesce(sum(calls), 0)::float8 FROM pg_stat_statements WHERE query LIKE $1),
                             (SELECT coalesce(sum(total_exec_time), 0)::float8 FROM pg_stat_statements WHERE query LIKE $1)",
                        &[&format!("%\"{table}\"%")],
                    )
                    .await?;
                let names = ["log bytes", "fsyncs", "statements", "ms of statements"];
                Ok(names.into_iter().enumerate().map(|(at, name)| (name, row.get(at))).collect())
            }),
            "mariadb" | "mysql" => self.mysql(name, async |connection| {
                let rows: Vec<(String, String)> = connection
                    .query(
                        "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_os_log_written', 'Innodb_data_fsyncs',
                         'Innodb_os_log_fsyncs', 'Com_insert_select')",
                    )
                    .await?;
                let value = |name: &str| {
                    let found = rows.iter().find(|(variable, _)| variable.eq_ignore_ascii_case(name));
                    found.and_then(|(_, value)| value.parse::<f64>().ok()).unwrap_or(0.0)
                };
                let fsyncs = value("Innodb_data_fsyncs").max(value("Innodb_os_log_fsyncs"));
                Ok(BTreeMap::from([
                    ("log bytes", value("Innodb_os_log_written")),
                    ("fsyncs", fsyncs),
                    ("statements", value("Com_insert_select")),
                ]))
            }),
            "sqlite" => {
                let size = |end: &str| {
                    fs::metadata(format!("{}{end}", self.file(table).display())).map_or(0.0, |file| file.len() as f64)
                };
                Ok(BTreeMap::from([("log bytes", size("-wal") + size(""))]))
            }
            _ => Ok(BTreeMap::new()),
        }
    }

    /// What decides whether a commit is on the disk, as the servers say it, and their versions.
    pub(crate) fn settings(&self) -> Result<Vec<[String; 3]>, Failure> {
        let mut settings = Vec::new();
        let mut add = |server: &str, name: &str, value: String| settings.push([server.into(), name.into(), value]);
        if self.has("postgres") {
            for name in [
                "server_version",
                "fsync",
                "synchronous_commit",
                "full_page_writes",
                "wal_sync_method",
                "shared_buffers",
            ] {
                let value = self.postgres(async |client| {
                    Ok(client.query_one(&format!("SELECT current_setting('{name}')"), &[]).await?.get::<_, String>(0))
                })?;
                add("postgres", name, value);
            }
        }
        for server in ["mariadb", "mysql"] {
            if !self.has(server) {
                continue;
            }
            let names = ["version", "innodb_flush_log_at_trx_commit", "innodb_flush_method", "log_bin", "sync_binlog"];
            for name in names {
                let query = format!("SHOW GLOBAL VARIABLES LIKE '{name}'");
                let row: Option<(String, String)> =
                    self.mysql(server, async |connection| Ok(connection.query_first(query).await?))?;
                add(server, name, row.map_or_else(|| "–".into(), |row| row.1));
            }
        }
        for server in ["redis", "redis-memory"] {
            if !self.has(server) {
                continue;
            }
            let (info, config): (String, Vec<String>) = self.runtime.block_on(async {
                let client = redis::Client::open(self.url(server, "")?)?;
                let mut connection = client.get_multiplexed_async_connection().await?;
                let info = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
                let mut config = redis::cmd("CONFIG");
                config.arg("GET").arg("append*");
                Ok::<_, Failure>((info, config.query_async(&mut connection).await?))
            })?;
            let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("–");
            add(server, "version", version.into());
            for pair in config.chunks(2).filter(|pair| ["appendonly", "appendfsync"].contains(&&*pair[0])) {
                add(server, &pair[0], pair[1].clone());
            }
        }
        if self.has("etcd-alone") {
            let version = self.runtime.block_on(async {
                let mut client = etcd_client::Client::connect([self.url("etcd-alone", "")?], None).await?;
                Ok::<_, Failure>(client.status().await?.version().to_owned())
            })?;
            add("etcd-alone", "version", version);
            add("etcd-alone", "fsync", "on (there is no --unsafe-no-fsync)".into());
        }
        add("sqlite", "version", rusqlite::version().into());
        add("sqlite", "journal_mode", self.sqlite_mode()?);
        // The store sets it for its connection, which no other can ask; tests of the store hold it to that.
        add("sqlite", "synchronous", "NORMAL".into());
        Ok(settings)
    }

    fn sqlite_mode(&self) -> Result<String, Failure> {
        self.create("sqlite", "settings")?;
        let connection = rusqlite::Connection::open(self.file("settings"))?;
        let mut pragma = connection.prepare("PRAGMA journal_mode")?;
        let mode = pragma.query(())?.next()?.map(|row| row.get(0)).transpose()?.unwrap_or_default();
        Ok(mode)
    }
}
