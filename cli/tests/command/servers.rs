use db_mutex::mysql::mysql_async::prelude::Queryable;
use db_mutex::mysql::mysql_async::{Conn, Opts};
use db_mutex::postgres::tokio_postgres::{NoTls, connect};

pub(crate) use db_mutex_test_servers::url;

/// The same for another user, or without a password.
pub(crate) fn url_of(server: &str, login: &str) -> String {
    let url = url(server);
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (_, place) = rest.rsplit_once('@').expect("a login");
    format!("{scheme}://{login}@{place}")
}

/// The user and the password in a URL.
pub(crate) fn login_of(url: &str) -> (String, String) {
    let login = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).expect("a login").0;
    let (user, password) = login.split_once(':').expect("a password");
    (user.to_owned(), password.to_owned())
}

/// A name that no other test run uses, for a table or a user.
pub(crate) fn unique(name: &str) -> String {
    format!("cli_{name}_{}", std::process::id())
}

/// Runs SQL on a server, as the user who owns the database.
pub(crate) fn execute(server: &str, sql: &str) {
    let url = url(server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if url.starts_with("postgres") {
            let (client, connection) = connect(&url, NoTls).await.expect("a connection");
            tokio::spawn(connection);
            client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        } else {
            let opts = Opts::from_url(&url).expect("a URL");
            let mut connection = Conn::new(opts).await.expect("a connection");
            for statement in sql.split(';').filter(|statement| !statement.trim().is_empty()) {
                connection.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
            }
        }
    });
}
