//! TLS with the test servers, whose certificate is for `localhost` alone.

use db_mutex_core::store::LockStore;
use db_mutex_core::{StoreError, StoreErrorKind};
use db_mutex_mysql::MySqlStore;
use db_mutex_test_servers::folder;

use crate::database::{Database, id};
use crate::servers::{MARIADB, MYSQL};

/// A server at another name of the same machine, and the folder with its certificates.
fn server_at(host: &str) -> [(Database, String); 2] {
    [("mariadb", &MARIADB), ("mysql", &MYSQL)].map(|(name, url)| {
        let folder = folder(name).into_os_string().into_string().unwrap();
        (Database::new(&url.replace("127.0.0.1", host)), folder)
    })
}

async fn connect(database: &Database, options: &str) -> Result<MySqlStore, StoreError> {
    let store =
        MySqlStore::builder().table(database.table.clone()).connect(&format!("{}{options}", database.url)).await?;
    store.find(&id("job")).await?;
    Ok(store)
}

#[track_caller]
fn refused_for_its_certificate(answer: Result<MySqlStore, StoreError>) {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn the_right_authority_and_host_are_accepted() {
    for (database, folder) in server_at("localhost") {
        for word in ["verify_identity", "VERIFY-CA", "required", "preferred"] {
            connect(&database, &format!("?ssl-mode={word}&ssl-ca={folder}/ca.pem")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_connection_is_encrypted() {
    for (database, folder) in server_at("localhost") {
        drop(database.store().await);
        // Only a client with TLS gets in.
        let name = database.table.as_str();
        database.run(&format!("CREATE USER '{name}'@'%' IDENTIFIED BY 's3cret-canary' REQUIRE SSL")).await;
        database.run(&format!("GRANT ALL ON *.* TO '{name}'@'%'")).await;
        let (_, place) = database.url.rsplit_once('@').unwrap();
        let user = Database { url: format!("mysql://{name}:s3cret-canary@{place}"), table: database.table.clone() };
        connect(&user, &format!("?ssl-mode=verify_identity&ssl-ca={folder}/ca.pem")).await.unwrap();
        assert!(connect(&user, "?ssl-mode=disabled").await.is_err());
    }
}

#[tokio::test]
async fn an_unknown_authority_is_refused() {
    for (database, folder) in server_at("localhost") {
        for word in ["verify_identity", "verify_ca"] {
            refused_for_its_certificate(
                connect(&database, &format!("?ssl-mode={word}&ssl-ca={folder}/other-ca.pem")).await,
            );
            refused_for_its_certificate(connect(&database, &format!("?ssl-mode={word}")).await);
        }
        connect(&database, "?ssl-mode=required").await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_host_is_refused_where_the_identity_counts() {
    for (database, folder) in server_at("127.0.0.1") {
        let ca = format!("ssl-ca={folder}/ca.pem");
        refused_for_its_certificate(connect(&database, &format!("?ssl-mode=verify_identity&{ca}")).await);
        connect(&database, &format!("?ssl-mode=verify_ca&{ca}")).await.unwrap();
    }
}

/// `127.1` is this machine too, but not by its word: it stands for any other host here.
#[tokio::test]
async fn plain_text_to_another_host_needs_the_word() {
    for (database, _) in server_at("127.1") {
        refused_for_its_certificate(connect(&database, "").await);
        connect(&database, "?ssl-mode=disabled").await.unwrap();
    }
}

/// A file that has to be read is not a part of the URL's text: the error is not about the URL, and names the parameter.
#[tokio::test]
async fn a_missing_file_of_authorities_is_named() {
    for (database, folder) in server_at("localhost") {
        for word in ["required", "verify_ca", "verify_identity"] {
            let answer = connect(&database, &format!("?ssl-mode={word}&ssl-ca={folder}/no-such.pem")).await;
            let error = answer.unwrap_err().to_string();
            assert!(error.contains("ssl-ca") && error.contains("no-such.pem"), "{error}");
        }
    }
}
