//! The private servers that `scripts/databases` starts.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub(crate) use db_mutex_test_servers::url;

/// The URL with other parameters.
pub(crate) fn with_parameters(url: &str, parameters: &str) -> String {
    format!("{}?{parameters}", url.split('?').next().unwrap())
}

/// The URL with another user, whose password is its name.
pub(crate) fn as_user(url: &str, user: &str) -> String {
    let (_, host) = url.split_once('@').unwrap();
    format!("postgres://{user}:{user}@{host}")
}

/// A connection of an administrator's, for what a test has to arrange.
pub(crate) async fn administrator() -> tokio_postgres::Client {
    connection(&url("postgres")).await
}

pub(crate) async fn connection(url: &str) -> tokio_postgres::Client {
    let url = with_parameters(url, "sslmode=disable");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Creates a role with these settings, who may create tables, if it is not there; its password is its name.
pub(crate) async fn role(name: &str, settings: &[(&str, &str)]) {
    // One transaction, one at a time: the lock is kept until its commit.
    let mut sql = format!(
        "SELECT pg_advisory_xact_lock(1);
         DO $$ BEGIN
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN
                 CREATE ROLE {name} LOGIN PASSWORD '{name}';
             END IF;
         END $$;
         GRANT CREATE ON SCHEMA public TO {name};"
    );
    for (key, value) in settings {
        sql += &format!("ALTER ROLE {name} SET {key} = '{value}';");
    }
    administrator().await.batch_execute(&sql).await.unwrap();
}
