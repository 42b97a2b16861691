//! A server that is some way off: how many times the way is gone.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Instant;

use crate::database::builder;
use crate::server::{connection, url};
use crate::waking::{hand_overs, round_trip};

const ONE_WAY: Duration = Duration::from_millis(5);

/// Answers the URL of the server as it is seen from afar.
async fn far_away(url: &str) -> String {
    let (login, address) = url.split_once('@').unwrap();
    let (server, database) = address.split_once('/').unwrap();
    let near = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (server, port) = (server.to_owned(), near.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (client, _) = near.accept().await.unwrap();
            let server = TcpStream::connect(&server).await.unwrap();
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::spawn(carry(from_client, to_server));
            tokio::spawn(carry(from_server, to_client));
        }
    });
    format!("{login}@127.0.0.1:{port}/{database}")
}

/// Lets everything arrive later, and any amount be on its way.
async fn carry(mut from: impl AsyncReadExt + Unpin + Send + 'static, mut to: impl AsyncWriteExt + Unpin) {
    let (sent, mut arriving) = unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(size @ 1..) = from.read(&mut buffer).await {
            if sent.send((Instant::now() + ONE_WAY, buffer[..size].to_vec())).is_err() {
                break;
            }
        }
    });
    while let Some((arrives, bytes)) = arriving.recv().await {
        tokio::time::sleep_until(arrives).await;
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
}

#[tokio::test]
async fn a_hand_over_goes_the_way_as_often_as_a_grant_does() {
    let url = far_away(&url("postgres")).await;
    let connect = || builder("distance").connect(&url);
    let (one, two) = (connect().await.unwrap(), connect().await.unwrap());
    let near = connection(&url).await;
    let handed_over = hand_overs(&one, &two, "distance", &near).await;
    // Once would do; the rest is for slow machines.
    assert!(handed_over < 5 * round_trip(&near).await, "{handed_over:?}");
}
