//! Which engine the server is. Many speak MySQL's protocol, and not all of them lock rows; docs/engines.md lists them.

use std::collections::HashMap;

use db_mutex_sql_support::engine::{Verdict, version_at_start};
use mysql_async::{Conn, Error};

use crate::cluster::Cluster;
use crate::row::text;
use crate::send::{Answer, query};

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    /// `VERSION()`.
    version: String,
    /// Some of its variables, by name in lower case.
    variables: HashMap<String, String>,
}

/// What a server is asked, in one round trip. Variables are asked for by name, because a variable that a server does not have is
/// an error in a SELECT.
const QUESTIONS: [&str; 2] = [
    "SELECT VERSION()",
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version_comment', 'wsrep_on', 'group_replication_group_name', \
     'group_replication_single_primary_mode', 'memsql_version')",
];

impl Server {
    /// Reads what [`QUESTIONS`] have returned.
    fn read(answers: Vec<Answer>) -> Self {
        let mut server = Self::default();
        for row in answers.into_iter().flat_map(|answer| answer.rows) {
            let mut values = row.unwrap().into_iter().map(text);
            match (values.next().flatten(), values.next()) {
                (Some(version), None) => server.version = version,
                (Some(name), Some(value)) => {
                    server.variables.insert(name.to_ascii_lowercase(), value.unwrap_or_default());
                }
                (None, _) => {}
            }
        }
        server
    }

    /// Asks a server.
    pub(crate) async fn of(connection: &mut Conn) -> Result<Self, Error> {
        Ok(Self::read(query(connection, &QUESTIONS).await?))
    }

    /// Whether locks hold there.
    pub(crate) fn verdict(&self) -> Verdict {
        let comment = self.variable("version_comment");
        let says = format!("{} {comment}", self.version).to_ascii_lowercase();
        if let Some((_, engine, reason)) = STRANGERS.iter().find(|(sign, ..)| says.contains(sign)) {
            return refused(&format!("{engine} ({})", self.version), reason, "use a MySQL or MariaDB");
        }
        if self.variables.contains_key("memsql_version") {
            return refused("SingleStore", SINGLESTORE, "use a MySQL or MariaDB");
        }
        let least = if says.contains("mariadb") { (10, 6) } else { (8, 0) };
        match version_at_start(&self.version) {
            Some(number) if number < least => {
                let reason = "it is older than MySQL 8.0 or MariaDB 10.6 and has no SKIP LOCKED";
                return refused(&self.version, reason, "upgrade it");
            }
            Some(_) => {}
            None => {
                let engine = format!("one that db-mutex does not know ({})", self.version);
                return Verdict::Partly { engine, condition: "if it is a MySQL or MariaDB" };
            }
        }
        let in_a_group = !self.variable("group_replication_group_name").is_empty();
        if in_a_group && self.variable("group_replication_single_primary_mode").eq_ignore_ascii_case("OFF") {
            return refused(
                "a member of a replication group in which all members accept writes",
                "that they do has not been shown",
                "set group_replication_single_primary_mode=ON",
            );
        }
        match self.cluster() {
            Cluster::One => Verdict::Kept,
            Cluster::Galera { returns_rows } => {
                let condition = match returns_rows {
                    true => "if the clocks of its nodes agree to within the safety margin",
                    false => {
                        "if the clocks of its nodes agree to within the safety margin, and `verify_in` does not work"
                    }
                };
                Verdict::Partly { engine: "a node of a Galera cluster (wsrep_on)".into(), condition }
            }
        }
    }

    /// How the servers that accept writes agree.
    pub(crate) fn cluster(&self) -> Cluster {
        if self.is_on("wsrep_on") {
            return Cluster::Galera { returns_rows: self.version.contains("MariaDB") };
        }
        Cluster::One
    }

    fn variable(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn is_on(&self, name: &str) -> bool {
        ["ON", "1"].iter().any(|on| self.variable(name).trim().eq_ignore_ascii_case(on))
    }
}

const SINGLESTORE: &str = "it has no row locks that a SELECT can skip";
const ANALYTICS: &str = "it is made for analysis and has no row locks";

/// What the version or its comment contains, in lower case, the engine, and why it cannot keep locks.
const STRANGERS: &[(&str, &str, &str)] = &[
    ("tidb", "TiDB", "its SELECT … FOR UPDATE SKIP LOCKED fails or locks nothing, as does LOCK IN SHARE MODE"),
    ("vitess", "Vitess", "it divides statements among shards, and does not pass LAST_INSERT_ID(…) on"),
    ("oceanbase", "OceanBase", "it has no READ UNCOMMITTED, so that an insert waits for that of another"),
    ("singlestore", "SingleStore", SINGLESTORE),
    ("memsql", "SingleStore", SINGLESTORE),
    ("starrocks", "StarRocks", ANALYTICS),
    ("doris", "Apache Doris", ANALYTICS),
    ("clickhouse", "ClickHouse", ANALYTICS),
    ("databend", "Databend", ANALYTICS),
    ("dolt", "Dolt", "it locks no rows, and merges what was written at the same time"),
    ("ndb cluster", "NDB Cluster", "each of its servers has InnoDB tables of its own, so others do not see the locks"),
    ("-ndb-", "NDB Cluster", "each of its servers has InnoDB tables of its own, so others do not see the locks"),
];

fn refused(engine: &str, reason: &'static str, advice: &'static str) -> Verdict {
    Verdict::Refused { engine: engine.to_owned(), reason, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str, variables: &[(&str, &str)]) -> Server {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Server { version: version.into(), variables }
    }

    #[test]
    fn mysql_and_mariadb_of_any_vendor_are_accepted() {
        for (version, comment) in [
            ("10.11.19-MariaDB-0+deb12u1", "Debian 12"),
            ("11.4.2-MariaDB", "MariaDB Server"),
            ("12.3.2-MariaDB-ubu2404", "mariadb.org binary distribution"),
            ("8.0.46", "MySQL Community Server - GPL"),
            ("9.7.4", "(Debian)"),
            ("8.0.36-28", "Percona Server (GPL), Release 28, Revision 47601f19"),
            // Aurora, and Cloud SQL.
            ("8.0.39", "Source distribution"),
            ("8.0.31-google", "(Google)"),
        ] {
            let server = server(version, &[("version_comment", comment), ("wsrep_on", "OFF")]);
            assert_eq!(server.verdict(), Verdict::Kept, "{version} {comment}");
        }
    }

    #[test]
    fn engines_that_only_speak_like_one_are_refused() {
        for (version, comment, name) in [
            ("8.0.11-TiDB-v7.5.1", "TiDB Server (Apache License 2.0) Community Edition, MySQL 8.0 compatible", "TiDB"),
            ("8.0.43-Vitess", "Version: 22.0.1 (Git revision 7552fbc) built on Mon Aug 25 2025", "Vitess"),
            ("8.0.31-vitess-16.0.0", "", "Vitess"),
            ("5.7.25-OceanBase_CE-v4.4.2.1", "OceanBase_CE 4.4.2.1 (r101000022026050611)", "OceanBase"),
            (
                "5.7.32",
                "SingleStoreDB source distribution (compatible; MySQL Enterprise & MySQL Commercial)",
                "SingleStore",
            ),
            ("5.1.0", "StarRocks version 3.3.2", "StarRocks"),
            ("5.7.99", "Doris version doris-2.1.7-rc03", "Doris"),
            ("8.0.33", "Dolt", "Dolt"),
            ("8.0.36-cluster", "MySQL NDB Cluster Community Server - GPL", "NDB Cluster"),
            ("5.7.44-log", "MySQL Community Server (GPL)", "5.7.44"),
            ("10.5.26-MariaDB", "mariadb.org binary distribution", "10.5.26"),
        ] {
            let verdict = server(version, &[("version_comment", comment)]).verdict();
            let error = verdict.clone().enforce(false).unwrap_err().to_string();
            assert!(error.contains(name), "{version} {comment}: {error}");
            assert!(verdict.enforce(true).is_ok());
        }
    }

    #[test]
    fn clusters_with_several_primaries_keep_a_part() {
        let galera = server("10.11.19-MariaDB", &[("wsrep_on", "ON")]);
        let group = |single| {
            server(
                "8.0.46",
                &[("group_replication_group_name", "ce9be252"), ("group_replication_single_primary_mode", single)],
            )
        };
        assert!(matches!(galera.verdict(), Verdict::Partly { .. }));
        assert!(matches!(group("OFF").verdict(), Verdict::Refused { .. }));
        assert_eq!(group("ON").verdict(), Verdict::Kept);
        assert!(matches!(server("SuperDB", &[]).verdict(), Verdict::Partly { .. }));
    }
}
