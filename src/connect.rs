use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::registered::Registered;
use crate::store::LockStore;
use crate::{ConnectRequest, DbMutex, DbMutexBuilder, Error, Invalid, ServerAddress, TableName};

/// Connects to the database that `url` names, and brings its table up to date.
///
/// | url | database |
/// |---|---|
/// | `sqlite:locks.db`, `sqlite:///var/lib/app/locks.db` | an SQLite file, created if there is none |
/// | `sqlite::memory:` | SQLite in memory, for this process alone |
/// | `mysql://user:password@host/database?ssl-mode=verify_identity`, `mariadb://…` | MySQL or MariaDB |
/// | `postgres://user:password@host/database?sslmode=verify-full` | PostgreSQL |
/// | a scheme that the program has registered with [`Connector::register`] | the registered store |
///
/// # Errors
/// [`Error::Invalid`] if the URL itself is invalid, or needs a feature that is not compiled in. Nothing has been opened
/// then; the error names the part that is wrong, and what is allowed. [`Error::Connect`] if the network, the server or a
/// file is the reason, such as a missing file of certificate authorities, or an unsupported engine. No error contains a
/// password.
///
/// # Cancellation safety
/// If the future is dropped, the table may have been created.
pub async fn connect(url: &str) -> Result<DbMutex, Error> {
    Connector::new(url)?.connect().await
}

/// Connects with options that are not part of a URL.
#[derive(Clone)]
#[must_use = "a connector does nothing until `connect` or `builder` is called"]
pub struct Connector {
    target: Target,
    url: String,
    table: TableName,
    create_if_missing: bool,
    read_only: bool,
    password: Option<String>,
    limit: Option<Duration>,
    /// Kept, because it remembers which host of the URL did not respond.
    #[cfg(feature = "postgres")]
    postgres: crate::postgres::PostgresStoreBuilder,
}

/// Which store a URL names.
#[derive(Debug, Clone)]
enum Target {
    BuiltIn(Scheme),
    Registered(Registered),
}

impl Target {
    fn of(url: &str) -> Result<Self, Invalid> {
        let Some((scheme, _)) = url.split_once(':') else {
            return Err(invalid("it has no scheme; write for example sqlite:locks.db"));
        };
        let scheme = scheme.to_ascii_lowercase();
        match (Scheme::named(&scheme), Registered::find(&scheme)) {
            (Some(scheme), _) => scheme.check(url).map(|()| Self::BuiltIn(scheme)),
            (None, Some(registered)) => Ok(Self::Registered(registered)),
            (None, None) => Err(unknown(&Registered::schemes())),
        }
    }
}

fn unknown(registered: &[String]) -> Invalid {
    let ours = "its scheme is unknown; write sqlite:, postgres: or mysql:";
    match registered {
        [] => invalid(ours),
        _ => invalid(format!("{ours}, or one that this program has registered: {}:", registered.join(":, "))),
    }
}

/// Whether a scheme, in lower case, belongs to a backend of this crate, compiled in or not.
pub(crate) fn is_built_in(scheme: &str) -> bool {
    Scheme::named(scheme).is_some()
}

/// The supported databases, compiled in or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Sqlite,
    Postgres,
    MySql,
}

impl Scheme {
    fn named(scheme: &str) -> Option<Self> {
        match scheme {
            "sqlite" => Some(Self::Sqlite),
            "postgres" | "postgresql" => Some(Self::Postgres),
            "mysql" | "mariadb" => Some(Self::MySql),
            _ => None,
        }
    }

    fn feature(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
        }
    }

    #[cfg(test)]
    fn is_compiled_in(self) -> bool {
        match self {
            Self::Sqlite => cfg!(feature = "sqlite-unbundled"),
            Self::Postgres => cfg!(feature = "postgres"),
            Self::MySql => cfg!(feature = "mysql"),
        }
    }

    /// Finds everything that can be found wrong without opening anything.
    fn check(self, url: &str) -> Result<(), Invalid> {
        match self {
            #[cfg(feature = "sqlite-unbundled")]
            Self::Sqlite => sqlite_path(url).map(drop),
            #[cfg(feature = "mysql")]
            Self::MySql => crate::mysql::MySqlStore::check_url(url),
            #[cfg(feature = "postgres")]
            Self::Postgres => crate::postgres::PostgresStore::check_url(url),
            #[allow(unreachable_patterns, reason = "with every backend compiled in")]
            scheme => {
                let _ = url;
                Err(scheme.turned_off())
            }
        }
    }

    fn turned_off(self) -> Invalid {
        let feature = self.feature();
        invalid(format!("its backend is not compiled in; turn on the feature `{feature}` of the crate db-mutex"))
    }
}

fn invalid(reason: impl Into<String>) -> Invalid {
    Invalid::Url { reason: reason.into() }
}

impl Connector {
    /// Checks a URL; nothing is opened yet.
    ///
    /// # Errors
    /// [`Invalid::Url`] if it is invalid, or needs a feature that is not compiled in. It names the part that is wrong, and
    /// never contains a password.
    pub fn new(url: &str) -> Result<Self, Invalid> {
        let target = Target::of(url)?;
        let (table, url) = (TableName::default(), url.to_owned());
        Ok(Self {
            target,
            url,
            table,
            create_if_missing: true,
            read_only: false,
            password: None,
            limit: None,
            #[cfg(feature = "postgres")]
            postgres: crate::postgres::PostgresStore::builder(),
        })
    }

    /// Sets the name of the table. Default: `db_mutex_locks`.
    pub fn table(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }

    /// Sets whether a missing file or table is created. Default: yes.
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// Sets whether the mutex only reads, with [`find`](DbMutex::find) and [`list`](DbMutex::list). The right to read is
    /// then enough, and nothing is created. Default: no.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets the password to log in to a server with if the URL has none. The connector's `Debug` output does not contain
    /// it.
    pub fn password_if_missing(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets how long [`connect`](Self::connect) waits for a PostgreSQL server that accepts writes. Each host of the URL
    /// gets a part of this time. Other stores ignore this option. Default: 5 s.
    pub fn connect_within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Where the URL leads, without its password; `None` for SQLite and for a store that was [registered](Self::register).
    pub fn address(&self) -> Option<ServerAddress> {
        match self.target {
            #[cfg(feature = "mysql")]
            Target::BuiltIn(Scheme::MySql) => crate::mysql::MySqlStore::address(&self.url).ok(),
            #[cfg(feature = "postgres")]
            Target::BuiltIn(Scheme::Postgres) => crate::postgres::PostgresStore::address(&self.url).ok(),
            _ => None,
        }
    }

    /// The path in an `sqlite:` URL; `None` for others.
    pub fn path(&self) -> Option<&Path> {
        match self.target {
            #[cfg(feature = "sqlite-unbundled")]
            Target::BuiltIn(Scheme::Sqlite) => sqlite_path(&self.url).ok().map(Path::new),
            _ => None,
        }
    }

    /// The SQL that creates the table, for an administrator to run. Empty for a store that was
    /// [registered](Self::register).
    pub fn schema_sql(&self) -> String {
        match self.target {
            #[cfg(feature = "sqlite-unbundled")]
            Target::BuiltIn(Scheme::Sqlite) => crate::sqlite::SqliteStore::schema_sql(&self.table),
            #[cfg(feature = "mysql")]
            Target::BuiltIn(Scheme::MySql) => crate::mysql::MySqlStore::schema_sql(&self.table),
            #[cfg(feature = "postgres")]
            Target::BuiltIn(Scheme::Postgres) => crate::postgres::PostgresStore::schema_sql(&self.table),
            _ => String::new(),
        }
    }

    /// Connects and returns a mutex with the default options.
    ///
    /// # Errors
    /// Same as [`connect`].
    ///
    /// # Cancellation safety
    /// Same as [`connect`].
    pub async fn connect(&self) -> Result<DbMutex, Error> {
        self.builder().await?.build()
    }

    /// Connects, and returns a builder for a mutex with other options.
    ///
    /// # Errors
    /// Same as [`connect`].
    ///
    /// # Cancellation safety
    /// Same as [`connect`].
    pub async fn builder(&self) -> Result<DbMutexBuilder, Error> {
        Ok(DbMutex::builder(self.store().await?))
    }

    pub(crate) async fn store(&self) -> Result<Arc<dyn LockStore>, Error> {
        let scheme = match &self.target {
            Target::BuiltIn(scheme) => scheme,
            Target::Registered(registered) => {
                return registered.open(self.request()).await.map_err(|source| Error::Connect { source });
            }
        };
        match scheme {
            #[cfg(feature = "sqlite-unbundled")]
            Scheme::Sqlite => self.sqlite_store().await,
            #[cfg(feature = "mysql")]
            Scheme::MySql => self.mysql_store().await,
            #[cfg(feature = "postgres")]
            Scheme::Postgres => self.postgres_store().await,
            #[allow(unreachable_patterns, reason = "with every backend compiled in")]
            scheme => Err(Error::Invalid(scheme.turned_off())),
        }
    }

    fn request(&self) -> ConnectRequest {
        ConnectRequest {
            url: self.url.clone(),
            table: self.table.clone(),
            create_if_missing: self.create_if_missing,
            read_only: self.read_only,
            password_if_missing: self.password.clone(),
        }
    }

    #[cfg(feature = "sqlite-unbundled")]
    async fn sqlite_store(&self) -> Result<Arc<dyn LockStore>, Error> {
        let builder = crate::sqlite::SqliteStore::builder().table(self.table.clone());
        let builder = builder.create_if_missing(self.create_if_missing).read_only(self.read_only);
        let store = builder.open(sqlite_path(&self.url)?).await.map_err(|source| Error::Connect { source })?;
        Ok(Arc::new(store))
    }

    #[cfg(feature = "mysql")]
    async fn mysql_store(&self) -> Result<Arc<dyn LockStore>, Error> {
        let mut builder = crate::mysql::MySqlStore::builder().table(self.table.clone());
        builder = builder.migrate(self.create_if_missing).read_only(self.read_only);
        if let Some(password) = &self.password {
            builder = builder.password(password);
        }
        let store = builder.connect(&self.url).await.map_err(|source| Error::Connect { source })?;
        Ok(Arc::new(store))
    }

    #[cfg(feature = "postgres")]
    async fn postgres_store(&self) -> Result<Arc<dyn LockStore>, Error> {
        let mut builder = self.postgres.clone().table(self.table.clone());
        builder = builder.migrate(self.create_if_missing).read_only(self.read_only);
        if let Some(password) = &self.password {
            builder = builder.password(password);
        }
        if let Some(limit) = self.limit {
            builder = builder.connect_within(limit);
        }
        let store = builder.connect(&self.url).await.map_err(|source| Error::Connect { source })?;
        Ok(Arc::new(store))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("target", &self.target).field("table", &self.table).finish_non_exhaustive()
    }
}

/// The path in `sqlite:path` or `sqlite://path`, taken as it stands.
#[cfg(feature = "sqlite-unbundled")]
fn sqlite_path(url: &str) -> Result<&str, Invalid> {
    let rest = url.split_once(':').map_or("", |(_, rest)| rest);
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path.is_empty() {
        return Err(invalid("it names no file; write for example sqlite:locks.db"));
    }
    if let Some((_, parameters)) = path.split_once('?') {
        // Not the value, which may be the key of an encrypted database.
        let name = parameters.split(['=', '&']).next().unwrap_or_default();
        return Err(invalid(format!("unknown parameter {name:?}; an sqlite: url takes none, and no `?` in its path")));
    }
    if path.contains('\0') {
        return Err(invalid("its path contains a NUL"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(url: &str) -> String {
        Connector::new(url).unwrap_err().to_string()
    }

    #[test]
    fn a_bad_url_is_told_apart_and_never_repeated() {
        assert!(reason("locks.db").contains("no scheme"));
        assert!(reason("redis://user:s3cret@host/db").contains("unknown"));
        assert!(!reason("redis://user:s3cret@host/db").contains("s3cret"));
    }

    #[test]
    fn a_backend_that_is_off_names_its_feature() {
        for scheme in [Scheme::Sqlite, Scheme::Postgres, Scheme::MySql] {
            if !scheme.is_compiled_in() {
                let url = format!("{}://user:s3cret@host/db", scheme.feature());
                assert!(reason(&url).contains(&format!("feature `{}`", scheme.feature())), "{}", reason(&url));
                assert!(!reason(&url).contains("s3cret"));
            }
        }
    }

    #[cfg(feature = "sqlite-unbundled")]
    #[test]
    fn sqlite_urls_name_files() {
        assert_eq!(sqlite_path("sqlite:locks.db"), Ok("locks.db"));
        assert_eq!(sqlite_path("sqlite:/a/b.db"), Ok("/a/b.db"));
        assert_eq!(sqlite_path("sqlite:///a/b.db"), Ok("/a/b.db"));
        assert_eq!(sqlite_path("sqlite::memory:"), Ok(":memory:"));
        assert!(reason("sqlite:").contains("names no file"));
        assert!(reason("sqlite:a.db?mode=s3cret&x=1").contains("unknown parameter \"mode\""));
        assert!(!reason("sqlite:a.db?mode=s3cret&x=1").contains("s3cret"));
        assert!(reason("sqlite:a\0b").contains("NUL"));
    }

    #[test]
    fn debug_shows_no_url() {
        if let Ok(connector) = Connector::new("sqlite:s3cret.db") {
            assert!(!format!("{connector:?}").contains("s3cret"));
        }
    }
}
