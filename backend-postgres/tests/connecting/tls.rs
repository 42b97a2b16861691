//! `sslmode` and `sslrootcert`, against servers with a certificate of our own. `postgres` has one for localhost and
//! 127.0.0.1, `postgres-tls` for localhost alone, `postgres-plain` none.

use std::fs;
use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, LockStore};
use db_mutex_core::{StoreError, StoreErrorKind as Kind, TableName};
use db_mutex_postgres::PostgresStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{fresh, request, server, shown};

/// The URL of a server under another name for its host.
fn url(name: &str, host: &str, parameters: &str) -> String {
    let url = server::with_parameters(&server::url(name), parameters);
    let (login, place) = url.split_once('@').unwrap();
    format!("{login}@{host}:{}", place.split_once(':').unwrap().1)
}

fn ca(name: &str) -> String {
    db_mutex_test_servers::folder(name).join("ca.pem").to_str().unwrap().to_owned()
}

/// Connects a store and takes a lock with it; answers whether the server says that the session is encrypted.
async fn encrypted(name: &str, host: &str, parameters: &str) -> Result<bool, StoreError> {
    let application = fresh("tls");
    let separator = if parameters.is_empty() { "" } else { "&" };
    let url = url(name, host, &format!("{parameters}{separator}application_name={application}"));
    let store = PostgresStore::builder().pool_size(1).table(TableName::new("tls").unwrap()).connect(&url).await?;
    store.insert_if_absent(&request(&application)).await?;
    let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
    let sessions = server::connection(&server::url(name)).await.query(sql, &[&application]).await.unwrap();
    assert_eq!(sessions.len(), 1, "the store keeps its one connection");
    Ok(sessions[0].get(0))
}

/// The error of a connection that must not come about, and that is not worth another attempt.
async fn refused(name: &str, host: &str, parameters: &str) -> StoreError {
    let error = encrypted(name, host, parameters).await.expect_err(parameters);
    assert_eq!(error.kind(), Kind::Config, "{parameters}: {error:?}");
    assert!(!error.is_transient(), "{parameters}: {error:?}");
    error
}

#[tokio::test]
async fn verify_full_encrypts_for_the_right_authority_and_host() {
    for (name, host) in [("postgres-tls", "localhost"), ("postgres", "localhost"), ("postgres", "127.0.0.1")] {
        let parameters = format!("sslmode=verify-full&sslrootcert={}", ca(name));
        assert!(encrypted(name, host, &parameters).await.unwrap(), "{name} as {host}");
    }
}

/// The certificate of `postgres-tls` is for localhost alone.
#[tokio::test]
async fn each_of_several_hosts_is_verified_by_its_own_name() {
    let parameters = format!("sslmode=verify-full&sslrootcert={}", ca("postgres-tls"));
    let right = url("postgres-tls", "localhost", &parameters);
    let place = right.split_once("localhost").unwrap().1.split('/').next().unwrap();
    let hosts = |list: &[&str]| {
        let list: Vec<_> = list.iter().map(|host| format!("{host}{place}")).collect();
        right.replace(&format!("localhost{place}"), &list.join(","))
    };
    let connect =
        async |url: String| PostgresStore::builder().table(TableName::new("tls").unwrap()).connect(&url).await;
    connect(hosts(&["127.0.0.1", "localhost"])).await.unwrap();
    let error = connect(hosts(&["127.0.0.1", "127.0.0.1"])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config, "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

/// The connection for notifications is opened apart from the pool.
#[tokio::test]
async fn notifications_come_encrypted_too() {
    let application = fresh("tls_wake");
    let parameters = format!("sslmode=verify-full&sslrootcert={}&application_name={application}", ca("postgres-tls"));
    let url = url("postgres-tls", "localhost", &parameters);
    let store = PostgresStore::builder().table(TableName::new("tls").unwrap()).connect(&url).await.unwrap();
    let held = request(&application);
    store.insert_if_absent(&held).await.unwrap();
    let waiter = {
        let (store, lock_id) = (store.clone(), held.lock_id.clone());
        tokio::spawn(async move { store.wait_for_release(&lock_id, Duration::from_secs(60)).await })
    };
    let client = server::connection(&server::url("postgres-tls")).await;
    let wanted = "SELECT count(*) FROM tls WHERE lock_id = $1 AND wanted_until IS NOT NULL";
    while client.query_one(wanted, &[&application]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(!waiter.is_finished(), "no connection listens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
    let listener = client.query_one(sql, &[&format!("{application} wake-ups")]).await.unwrap();
    assert!(listener.get::<_, bool>(0));
    store.delete(&DeleteRequest::by_owner(held.lock_id, held.owner)).await.unwrap();
    waiter.await.unwrap().unwrap();
}

#[tokio::test]
async fn verify_full_refuses_the_wrong_host() {
    let error =
        refused("postgres-tls", "127.0.0.1", &format!("sslmode=verify-full&sslrootcert={}", ca("postgres-tls"))).await;
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(shown(&error).contains("NotValidForName"), "{error:?}");
}

#[tokio::test]
async fn verify_ca_takes_any_host_of_the_right_authority() {
    let parameters = format!("sslmode=verify-ca&sslrootcert={}", ca("postgres-tls"));
    assert!(encrypted("postgres-tls", "127.0.0.1", &parameters).await.unwrap());
    assert!(encrypted("postgres-tls", "localhost", &parameters).await.unwrap());
}

#[tokio::test]
async fn an_unknown_authority_is_refused() {
    let other = db_mutex_test_servers::folder("postgres").join("other-ca.pem");
    for mode in ["verify-ca", "verify-full"] {
        for authorities in [format!("&sslrootcert={}", other.display()), String::new(), "&sslrootcert=system".into()] {
            let error = refused("postgres", "localhost", &format!("sslmode={mode}{authorities}")).await;
            assert!(
                error.to_string().contains("certificate") || error.to_string().contains("ca-certificates"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn require_encrypts_and_verifies_nothing() {
    assert!(encrypted("postgres-tls", "127.0.0.1", "sslmode=require").await.unwrap());
}

#[tokio::test]
async fn require_with_an_authority_verifies_as_verify_ca_does() {
    let right = format!("sslmode=require&sslrootcert={}", ca("postgres-tls"));
    assert!(encrypted("postgres-tls", "127.0.0.1", &right).await.unwrap());
    let other = db_mutex_test_servers::folder("postgres-tls").join("other-ca.pem");
    refused("postgres-tls", "127.0.0.1", &format!("sslmode=require&sslrootcert={}", other.display())).await;
    refused("postgres-tls", "localhost", "sslmode=require&sslrootcert=system").await;
}

#[tokio::test]
async fn naming_an_authority_alone_asks_for_full_verification() {
    let authority = format!("sslrootcert={}", ca("postgres-tls"));
    assert!(encrypted("postgres-tls", "localhost", &authority).await.unwrap());
    refused("postgres-tls", "127.0.0.1", &authority).await;
    refused("postgres-plain", "localhost", &authority).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_by_all_who_ask_for_it() {
    let ca = ca("postgres");
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = refused("postgres-plain", "127.0.0.1", &format!("sslmode={mode}&sslrootcert={ca}")).await;
        assert!(error.to_string().contains("TLS"), "{error}");
    }
    refused("postgres-plain", "127.0.0.1", "sslmode=require").await;
}

#[tokio::test]
async fn nothing_is_sent_in_plain_text_after_a_server_declined_tls() {
    let ca = ca("postgres");
    let asking = ["require", "verify-ca", "verify-full"].map(|mode| format!("sslmode={mode}&sslrootcert={ca}"));
    for parameters in asking.into_iter().chain(["sslmode=require".to_owned()]) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let listening = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut asked = [0; 8];
            peer.read_exact(&mut asked).await.unwrap();
            assert_eq!(asked[4..], 80_877_103_u32.to_be_bytes(), "the first message asks for TLS");
            peer.write_all(b"N").await.unwrap();
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).await.unwrap();
            rest
        });
        let url = format!("postgres://u:p@127.0.0.1:{port}/d?{parameters}");
        let error = PostgresStore::connect(&url).await.unwrap_err();
        let sent = tokio::time::timeout(Duration::from_secs(10), listening).await.unwrap().unwrap();
        assert!(sent.is_empty(), "{parameters} sent {sent:?}");
        assert_eq!(error.kind(), Kind::Config, "{parameters}: {error:?}");
    }
}

#[tokio::test]
async fn prefer_and_the_default_on_this_machine_encrypt_where_the_server_does() {
    for parameters in ["sslmode=prefer", ""] {
        assert!(encrypted("postgres-tls", "127.0.0.1", parameters).await.unwrap(), "{parameters}");
        assert!(!encrypted("postgres-plain", "127.0.0.1", parameters).await.unwrap(), "{parameters}");
    }
}

#[tokio::test]
async fn disable_is_plain_text() {
    assert!(!encrypted("postgres", "127.0.0.1", "sslmode=disable").await.unwrap());
}

#[tokio::test]
async fn a_unix_socket_needs_no_tls() {
    let url = server::url("postgres");
    let (login, place) = url.split_once('@').unwrap();
    let port = place.split([':', '/']).nth(1).unwrap();
    let socket = db_mutex_test_servers::folder("postgres").join("s").to_str().unwrap().replace('/', "%2F");
    let store = PostgresStore::builder().table(TableName::new("tls").unwrap());
    store.connect(&format!("{login}@{socket}:{port}/dbmutex")).await.unwrap();
}

#[tokio::test]
async fn a_root_certificate_file_that_is_of_no_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    let nonsense = "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n";
    for path in [
        folder.path().join("missing.pem"),
        file("empty.pem", ""),
        file("text.pem", "no certificate"),
        file("broken.pem", broken),
        file("nonsense.pem", nonsense),
    ] {
        for mode in ["require", "verify-ca", "verify-full"] {
            let parameters = format!("sslmode={mode}&sslrootcert={}", path.display());
            let error = refused("postgres", "localhost", &parameters).await.to_string();
            assert!(error.contains("sslrootcert") && error.contains(path.to_str().unwrap()), "{error}");
        }
    }
}

#[tokio::test]
async fn the_applications_own_provider_of_cryptography_is_left_to_it() {
    assert!(encrypted("postgres-tls", "localhost", "sslmode=require").await.unwrap());
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}
