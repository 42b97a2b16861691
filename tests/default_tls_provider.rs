//! An application has made aws-lc the default provider of rustls. It is used or left alone, but not replaced.

use std::sync::Arc;

use db_mutex::connect;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

#[tokio::test]
async fn the_default_of_the_application_stays() {
    aws_lc_rs::default_provider().install_default().unwrap();
    let before = Arc::clone(CryptoProvider::get_default().unwrap());

    for url in [
        db_mutex_test_servers::url("postgres-tls"),
        format!("{}?ssl-mode=required", db_mutex_test_servers::url("mariadb")),
    ] {
        let mutex = connect(&url).await.unwrap();
        mutex.lock("default-tls-provider").acquire().await.unwrap().release().await.unwrap();
    }
    assert!(Arc::ptr_eq(&before, CryptoProvider::get_default().unwrap()));
}
