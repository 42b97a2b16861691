//! How a pooler is found out, and what the URL may say of one.

use db_mutex_core::StoreError;
use db_mutex_core::StoreErrorKind as Kind;
use db_mutex_postgres::PostgresStore;
use db_mutex_test_servers::Proxy;

use crate::{server, table, work};

async fn connect(name: &str, url: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::builder().table(table(name)).connect(url).await
}

/// It is noticed, and nothing is prepared there: prepared statements would be sent without their texts.
#[tokio::test]
async fn a_pooler_that_takes_no_notice_of_settings_is_found_out() {
    let proxy = Proxy::to(&server::url("postgres")).await;
    proxy.strip_options();
    let store = connect("stripped", proxy.url()).await.unwrap();
    // A statement that was prepared comes without its text the second time.
    work(&store, "job").await;
    proxy.count_requests_with("INSERT INTO \"stripped");
    work(&store, "job").await;
    assert!(proxy.counted() > 0, "statements are sent with their texts");
}

#[tokio::test]
async fn without_a_pooler_statements_are_prepared() {
    let proxy = Proxy::to(&server::url("postgres")).await;
    for (parameter, is_prepared) in [("", true), ("&pooler=auto", true), ("&pooler=no", true), ("&pooler=yes", false)] {
        let store = connect("direct", &format!("{}{parameter}", proxy.url())).await.unwrap();
        work(&store, "job").await;
        proxy.count_requests_with("INSERT INTO \"direct");
        work(&store, "job").await;
        assert_eq!(proxy.counted() == 0, is_prepared, "{parameter}");
    }
}

#[tokio::test]
async fn with_pooler_no_a_pooler_is_an_error() {
    let proxy = Proxy::to(&server::url("postgres")).await;
    proxy.strip_options();
    for url in [proxy.url(), &server::url("pgbouncer")] {
        let error = connect("refused", &format!("{url}&pooler=no")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(error.to_string().contains("pooler=auto or pooler=yes"), "{error}");
        for word in ["auto", "yes"] {
            work(&connect("refused", &format!("{url}&pooler={word}")).await.unwrap(), "job").await;
        }
    }
}

/// No connection is opened with settings, not even to find out whether they are kept.
#[tokio::test]
async fn with_pooler_yes_no_settings_are_asked_for() {
    let proxy = Proxy::to(&server::url("postgres")).await;
    proxy.count_requests_with("enable_seqscan");
    work(&connect("unset", &format!("{}&pooler=yes", proxy.url())).await.unwrap(), "job").await;
    assert_eq!(proxy.counted(), 0);
    work(&connect("unset", proxy.url()).await.unwrap(), "job").await;
    assert!(proxy.counted() > 0, "otherwise they are");
}
