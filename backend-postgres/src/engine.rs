//! Which engine the server is. Many speak PostgreSQL's protocol, and not all of them lock rows; docs/engines.md lists them.

use db_mutex_core::{StoreError, StoreErrorKind as Kind};
use db_mutex_sql_support::engine::{Verdict, version_at_start};
use tokio_postgres::Row;

use crate::migrate::Queries;

/// Refuses a server in which locks cannot be kept: another engine, a replica, one that accepts no writes.
pub(crate) async fn check_server(
    client: &impl Queries,
    read_only: bool,
    allow_unsupported_engine: bool,
) -> Result<(), StoreError> {
    let columns = Server::COLUMNS;
    let server = format!(
        "SELECT {columns}, pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only'),
             pg_catalog.current_setting('server_encoding')"
    );
    let server = match client.one(&server, &[]).await {
        Ok(server) => server,
        Err(error) => {
            // What every PostgreSQL knows is an error: then another engine answers, or none.
            if let Ok(stranger) = Server::read_of_a_stranger(client).await {
                stranger.verdict().enforce(allow_unsupported_engine)?;
            }
            return Err(error);
        }
    };
    Server::read(&server).verdict().enforce(allow_unsupported_engine)?;
    let flaw = |kind, what: &str| Err(StoreError::new(kind, what));
    if server.get::<_, bool>(3) {
        return flaw(Kind::ReadOnly, "this PostgreSQL is a replica and accepts no writes; connect to the primary");
    }
    if !read_only && server.get::<_, &str>(4) == "on" {
        let what =
            "this PostgreSQL session accepts no writes (default_transaction_read_only is on); turn it off for the role";
        return flaw(Kind::ReadOnly, what);
    }
    if server.get::<_, &str>(5) != "UTF8" {
        return flaw(Kind::Config, "the database's encoding is not UTF8, so it cannot keep every lock id; use another");
    }
    Ok(())
}

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
struct Server {
    /// `version()`.
    version: String,
    /// The names of the extensions in the database, with a space before and behind each.
    extensions: String,
    /// Whether it has a catalog that Aurora DSQL has: its version is that of a PostgreSQL.
    has_dsql_catalog: bool,
}

impl Server {
    const COLUMNS: &str = "pg_catalog.version(),
        (SELECT pg_catalog.concat(' ', pg_catalog.string_agg(extname, ' '), ' ') FROM pg_catalog.pg_extension),
        EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname = 'sys' AND c.relname = 'iam_pg_role_mappings')";

    fn read(row: &Row) -> Self {
        Self { version: row.get(0), extensions: row.get(1), has_dsql_catalog: row.get(2) }
    }

    /// What can be asked of a server that does not know what a PostgreSQL knows.
    async fn read_of_a_stranger(client: &impl Queries) -> Result<Self, StoreError> {
        let row = client.one("SELECT version()", &[]).await?;
        Ok(Self { version: row.get(0), ..Self::default() })
    }

    /// Whether locks hold there.
    fn verdict(&self) -> Verdict {
        if self.has_dsql_catalog {
            return refused("Aurora DSQL", NO_ROW_LOCKS, "use Aurora PostgreSQL, or another PostgreSQL");
        }
        if let Some((_, engine, reason)) = STRANGERS.iter().find(|(sign, ..)| self.version.contains(sign)) {
            return refused(engine, reason, "use a PostgreSQL");
        }
        let number = self.version.strip_prefix("PostgreSQL ").and_then(version_at_start);
        let is_yugabyte = self.version.contains("-YB-");
        match number {
            Some((..12, _)) => {
                let engine = if is_yugabyte { "YugabyteDB" } else { "PostgreSQL" };
                refused(&format!("{engine} ({})", self.short_version()), TOO_OLD, "upgrade it")
            }
            Some(_) if is_yugabyte => partly(
                "YugabyteDB",
                "as far as its row locks are those of PostgreSQL, which was not tried; use 2025.2.3 or newer, and turn \
                 yb_enable_read_committed_isolation on",
            ),
            Some(_) if [" bdr ", " spock "].iter().any(|name| self.extensions.contains(name)) => partly(
                "a PostgreSQL that replicates writes between several primaries (bdr or spock)",
                "only if all clients use the same primary; connect them to one, not to a load balancer",
            ),
            Some(_) => Verdict::Kept,
            None => {
                partly(&format!("one that db-mutex does not know ({})", self.short_version()), "if it is a PostgreSQL")
            }
        }
    }

    fn short_version(&self) -> String {
        self.version.split(" on ").next().unwrap_or_default().chars().take(60).collect()
    }
}

const NO_ROW_LOCKS: &str = "it locks no rows, and finds conflicts only at the commit";
const WAREHOUSE: &str = "it is a data warehouse, which locks whole tables";
const STREAMS: &str = "it has no row locks and no transactions like those of a PostgreSQL";
const TOO_OLD: &str = "it is older than PostgreSQL 12 and lacks what the statements need";

/// What the version contains, the engine, and why it cannot keep locks.
const STRANGERS: &[(&str, &str, &str)] = &[
    (
        "CockroachDB",
        "CockroachDB",
        "it refuses statements that change a table in more than one place, and has no LISTEN",
    ),
    ("Redshift", "Amazon Redshift", "it is a data warehouse, which enforces no primary keys"),
    ("Greenplum", "Greenplum", WAREHOUSE),
    ("WarehousePG", "WarehousePG", WAREHOUSE),
    ("Cloudberry", "Cloudberry", WAREHOUSE),
    ("openGauss", "openGauss", "it has no INSERT … ON CONFLICT"),
    ("Materialize", "Materialize", STREAMS),
    ("RisingWave", "RisingWave", STREAMS),
    ("QuestDB", "QuestDB", STREAMS),
    ("CrateDB", "CrateDB", STREAMS),
];

fn refused(engine: &str, reason: &'static str, advice: &'static str) -> Verdict {
    Verdict::Refused { engine: engine.to_owned(), reason, advice }
}

fn partly(engine: &str, condition: &'static str) -> Verdict {
    Verdict::Partly { engine: engine.to_owned(), condition }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(version: &str) -> Verdict {
        Server { version: version.into(), extensions: " plpgsql ".into(), has_dsql_catalog: false }.verdict()
    }

    #[test]
    fn a_postgresql_of_any_vendor_is_accepted() {
        for version in [
            "PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14) 12.2.0, 64-bit",
            "PostgreSQL 16.14 on x86_64-pc-linux-musl, compiled by gcc (Alpine 15.2.0) 15.2.0, 64-bit",
            "PostgreSQL 15.4 on aarch64-unknown-linux-gnu, compiled by aarch64-unknown-linux-gnu-gcc (GCC) 9.5.0, 64-bit",
            "PostgreSQL 12.22, compiled by Visual C++ build 1914, 64-bit",
            "PostgreSQL 18beta1 on x86_64-pc-linux-gnu, compiled by gcc, 64-bit",
            "PostgreSQL 15.2 (EnterpriseDB Advanced Server 15.2.0) on x86_64-pc-linux-gnu, compiled by gcc, 64-bit",
        ] {
            assert_eq!(verdict(version), Verdict::Kept, "{version}");
        }
    }

    #[test]
    fn engines_that_only_speak_like_one_are_refused() {
        for (version, name) in [
            ("CockroachDB CCL v25.2.1 (x86_64-pc-linux-gnu, built 2025/06/09 17:07:28, go1.23.7)", "CockroachDB"),
            (
                "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), \
                 Redshift 1.0.48805",
                "Amazon Redshift",
            ),
            (
                "PostgreSQL 9.4.26 (Greenplum Database 6.23.0 build commit:5b5e432f Open Source) on x86_64-unknown-linux-gnu, \
                 compiled by gcc (GCC) 6.4.0, 64-bit compiled on Dec 20 2022 08:02:23",
                "Greenplum",
            ),
            (
                "PostgreSQL 14.4 (Cloudberry Database 1.5.4 build commit:f7a7b6c) on x86_64-pc-linux-gnu, compiled by gcc",
                "Cloudberry",
            ),
            ("PostgreSQL 12.3, compiled by Visual C++ build 1914, 64-bit, QuestDB", "QuestDB"),
            ("PostgreSQL 13.14.0-RisingWave-2.2.1 (0fd0bd7)", "RisingWave"),
            ("PostgreSQL 11.22 (Debian 11.22-0+deb10u1) on x86_64-pc-linux-gnu, compiled by gcc", "PostgreSQL 11.22"),
            ("PostgreSQL 11.2-YB-2.20.1.1-b0 on x86_64-pc-linux-gnu, compiled by clang", "YugabyteDB"),
        ] {
            let error = verdict(version).enforce(false).unwrap_err().to_string();
            assert!(error.contains(name), "{version}: {error}");
            assert!(verdict(version).enforce(true).is_ok());
        }
    }

    /// Its version is the shortest that a PostgreSQL could have.
    #[test]
    fn aurora_dsql_is_known_by_its_catalog() {
        let server = Server { version: "PostgreSQL 16".into(), extensions: "  ".into(), has_dsql_catalog: true };
        assert!(server.verdict().enforce(false).unwrap_err().to_string().contains("Aurora DSQL"));
    }

    #[test]
    fn what_keeps_a_part_is_told_apart() {
        let yugabyte = verdict("PostgreSQL 15.12-YB-2025.2.3.0-b0 on x86_64-pc-linux-gnu, compiled by clang");
        assert!(matches!(yugabyte, Verdict::Partly { engine, .. } if engine == "YugabyteDB"));
        assert!(
            matches!(verdict("SuperDB 3 on x86_64"), Verdict::Partly { engine, .. } if engine.contains("SuperDB 3"))
        );
        for extension in ["bdr", "spock"] {
            let server = Server {
                version: "PostgreSQL 16.2 on x86_64-pc-linux-gnu".into(),
                extensions: format!(" plpgsql {extension} "),
                has_dsql_catalog: false,
            };
            assert!(matches!(server.verdict(), Verdict::Partly { .. }), "{extension}");
        }
    }
}
