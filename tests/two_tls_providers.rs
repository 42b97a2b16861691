//! An application has rustls with aws-lc in its dependency graph, db-mutex brings ring, and no default was chosen.
//! rustls then panics whenever it has to choose one itself.

use db_mutex::connect;
use rustls::ClientConfig;
use rustls::crypto::CryptoProvider;

#[tokio::test]
async fn both_backends_connect_without_a_default() {
    assert!(std::panic::catch_unwind(ClientConfig::builder).is_err(), "there is one provider, so nothing is tested");

    let mutex = connect(&db_mutex_test_servers::url("postgres-tls")).await.unwrap();
    mutex.lock("two-tls-providers").acquire().await.unwrap().release().await.unwrap();
    assert!(CryptoProvider::get_default().is_none(), "PostgreSQL needs no default");

    let mutex = connect(&format!("{}?ssl-mode=required", db_mutex_test_servers::url("mariadb"))).await.unwrap();
    mutex.lock("two-tls-providers").acquire().await.unwrap().release().await.unwrap();
}
