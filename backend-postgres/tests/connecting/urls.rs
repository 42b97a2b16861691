//! What a URL says, as far as a server has to be there to show it. What is wrong with its text is shown in `src/url.rs`.

use std::error::Error;

use db_mutex_core::{Invalid, StoreErrorKind as Kind};
use db_mutex_postgres::PostgresStore;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::{fresh_table, server};

#[tokio::test]
async fn an_ipv6_address_is_connected_to() {
    let url = server::url("postgres");
    let (login, place) = url.split_once('@').unwrap();
    let (address, rest) = place.split_once('/').unwrap();
    let (address, listener) = (address.to_owned(), TcpListener::bind("[::1]:0").await.unwrap());
    let url = format!("{login}@[::1]:{}/{rest}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&address).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    PostgresStore::builder().table(fresh_table("ipv6")).connect(&url).await.unwrap();
}

#[tokio::test]
async fn an_invalid_url_is_the_source_of_the_error() {
    let error = PostgresStore::connect("postgres://u:s3cret@h/d?sslmode=maybe").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(matches!(error.source().unwrap().downcast_ref(), Some(Invalid::Url { .. })), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
}
