//! Stores that share the connections of a pooler with each other and with other applications.

use db_mutex_postgres::PostgresStore;
use db_mutex_postgres::tokio_postgres::SimpleQueryMessage;
use tokio::task::JoinSet;

use crate::{server, table, work};

/// A pooler gives a connection to others between two transactions: what one prepared, the other does not have.
async fn two_stores_share_the_connections_of(pooler: &str, parameter: &str) {
    let (url, table) = (server::url(pooler), table(&pooler.replace('-', "_")));
    let mut tasks = JoinSet::new();
    for number in 0..2 {
        let builder = PostgresStore::builder().table(table.clone());
        let store = builder.connect(&format!("{url}{parameter}")).await.unwrap();
        for task in 0..10 {
            let store = store.clone();
            // Five requests each time: 2 × 10 × 7 × 5 = 700.
            tasks.spawn(async move {
                for _ in 0..7 {
                    work(&store, &format!("job {number} {task}")).await;
                }
            });
        }
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
    // Other applications find the connections as they were.
    for _ in 0..8 {
        let other = server::connection(&url).await;
        let left = "SELECT concat_ws(' ', current_setting('enable_seqscan'), current_setting('jit'),
            current_setting('statement_timeout'), current_setting('default_transaction_isolation'),
            (SELECT count(*) FROM pg_prepared_statements))";
        let messages = other.simple_query(left).await.unwrap();
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(row, Some("on on 0 read committed 0"), "{pooler}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_transaction_mode() {
    two_stores_share_the_connections_of("pgbouncer", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_that_takes_no_notice_of_settings() {
    two_stores_share_the_connections_of("pgbouncer-ignoring", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_session_mode() {
    two_stores_share_the_connections_of("pgbouncer-session", "").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/test-long has this server"]
async fn pgbouncer_that_knows_prepared_statements() {
    for parameter in ["", "&pooler=yes"] {
        two_stores_share_the_connections_of("pgbouncer-prepared", parameter).await;
    }
}

/// It keeps the settings of a login, and gives a connection to others at its end only.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "scripts/test-long has this server"]
async fn pgpool_with_load_balancing() {
    for parameter in ["", "&pooler=yes"] {
        two_stores_share_the_connections_of("pgpool", parameter).await;
    }
}
