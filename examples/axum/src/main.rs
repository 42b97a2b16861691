//! A server of axum with a route that runs under a lock, a job in the background under another, and a graceful shutdown
//! that releases what is held.
//!
//! ```text
//! POST /import/north: 200 OK, imported
//! POST /import/south, while another process imports it: 409 Conflict
//! SIGTERM
//! the request that was under way: 200 OK, imported
//! the lock of the job in the background is free
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{Path, Request};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use db_mutex::admin::LockState;
use db_mutex::tower::{BoxError, LockLayer};
use db_mutex::{DbMutex, WaitLimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tower::ServiceBuilder;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mutex = db_mutex::connect("sqlite:locks.db").await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // Before the first client can stop the server.
    let mut terminated = signal(SignalKind::terminate())?;

    let client = tokio::spawn(client(address));
    let background = tokio::spawn(lead(mutex.clone()));

    axum::serve(listener, router(&mutex)).with_graceful_shutdown(async move { _ = terminated.recv().await }).await?;
    // All requests have been answered, and their locks released. A job in the background has to be stopped, which drops its
    // guard; `shutdown` waits until that is released.
    background.abort();
    let _ = background.await;
    mutex.shutdown(Duration::from_secs(5)).await;

    println!("the request that was under way: {}", client.await??);
    let another_process = db_mutex::connect("sqlite:locks.db").await?;
    another_process.lock("leader").acquire().await?.release().await?;
    println!("the lock of the job in the background is free");
    another_process.shutdown(Duration::from_secs(5)).await;
    Ok(())
}

fn router(mutex: &DbMutex) -> Router {
    let mutex = mutex.clone();
    let lock = LockLayer::new(move |request: &Request| mutex.lock(request.uri().path()).keep_alive(true))
        .skip_with(|_| (StatusCode::CONFLICT, "another request imports it").into_response());
    // A route of axum cannot fail. What is left of the lock's errors, such as a database that is away, becomes a response here.
    let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(failed)).layer(lock);
    Router::new().route("/import/{shop}", post(import).route_layer(layers))
}

async fn import(uri: Uri, Path(shop): Path<String>) -> Result<&'static str, StatusCode> {
    // The lock was that of the path as it is written: `/import/%6Eorth` is the same shop, and not the same lock.
    if uri.path() != format!("/import/{shop}") {
        return Err(StatusCode::NOT_FOUND);
    }
    if shop == "slow" {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok("imported")
}

async fn failed(error: BoxError) -> Response {
    // Where the database is and who holds the lock is nothing for a client.
    eprintln!("{error}");
    (StatusCode::SERVICE_UNAVAILABLE, "try again later").into_response()
}

/// Works in the background while it leads.
async fn lead(mutex: DbMutex) -> Result<(), db_mutex::Error> {
    let lock = mutex.lock("leader").ttl(Duration::from_secs(30)).keep_alive(true).wait(WaitLimit::Forever);
    loop {
        let guard = lock.acquire().await?;
        guard.lost().await; // The work, in a `select!`: see the example `leader`.
    }
}

/// Plays a client, and at last the system that stops the server.
async fn client(address: SocketAddr) -> Result<String, Failure> {
    println!("POST /import/north: {}", request(address, "/import/north").await?);

    let another_process = db_mutex::connect("sqlite:locks.db").await?;
    let guard = another_process.lock("/import/south").acquire().await?;
    let response = request(address, "/import/south").await?;
    let status = response.split(',').next().unwrap_or_default();
    println!("POST /import/south, while another process imports it: {status}");
    guard.release().await?;

    let slow = tokio::spawn(request(address, "/import/slow"));
    // Both locks should be held when the server is stopped.
    while !is_held(&another_process, "leader").await? {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while !is_held(&another_process, "/import/slow").await? && !slow.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    another_process.shutdown(Duration::from_secs(5)).await;
    println!("SIGTERM");
    std::process::Command::new("kill").arg(std::process::id().to_string()).status()?;
    slow.await?
}

async fn is_held(mutex: &DbMutex, id: &str) -> Result<bool, db_mutex::Error> {
    Ok(mutex.find(id).await?.is_some_and(|row| row.state() == LockState::Held))
}

/// Returns the status and the body.
async fn request(address: SocketAddr, path: &str) -> Result<String, Failure> {
    let mut connection = TcpStream::connect(address).await?;
    let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or("no head")?;
    let status = head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or("no status")?;
    Ok(format!("{status}, {body}"))
}
