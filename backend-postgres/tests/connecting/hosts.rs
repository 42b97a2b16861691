//! Several hosts in a URL, and hosts that accept no login.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use db_mutex_core::store::{ListFilter, LockStore};
use db_mutex_core::{DbMutex, StoreErrorKind as Kind};
use db_mutex_postgres::PostgresStore;
use db_mutex_postgres::deadpool_postgres::{Manager, Pool};
use db_mutex_postgres::tokio_postgres::NoTls;
use db_mutex_test_servers::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::{fresh_table, server};

const LIMIT: Duration = Duration::from_secs(10);

/// The URL of `postgres` with these hosts in front of its own.
fn behind(hosts: &[String]) -> String {
    let url = server::url("postgres");
    let (login, place) = url.split_once('@').unwrap();
    format!("{login}@{},{place}", hosts.join(","))
}

/// The same without its own.
fn only(hosts: &[String]) -> String {
    let url = server::url("postgres");
    let (login, place) = url.split_once('@').unwrap();
    format!("{login}@{}/{}", hosts.join(","), place.split_once('/').unwrap().1)
}

async fn connect(url: &str) -> Result<PostgresStore, db_mutex_core::StoreError> {
    PostgresStore::builder().table(fresh_table("hosts")).statement_timeout(LIMIT).connect(url).await
}

/// A host that accepts connections and says nothing.
async fn frozen() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepting = tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            silent.push(listener.accept().await.unwrap());
        }
    });
    (address, accepting)
}

/// A host that takes no notice of attempts to connect: its queue is full.
async fn unanswering() -> (String, Vec<TcpStream>, TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        filling.push(stream.unwrap());
    }
    (address.to_string(), filling, listener)
}

/// A host where no one listens.
fn closed() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A host that refuses the first logins with this error, and then leads to `postgres`.
async fn refusing(code: &'static str, text: &'static str, logins: usize) -> String {
    let url = server::url("postgres");
    let server = url.split_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for number in 0.. {
            let (mut client, _) = listener.accept().await.unwrap();
            if number >= logins {
                let mut server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
                continue;
            }
            let mut start = [0; 1024];
            let _ = client.read(&mut start).await;
            let fields = format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0");
            let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
            client.write_all(&[b"E", &length[..], fields.as_bytes()].concat()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_host_that_does_not_answer_leaves_time_for_the_next() {
    let (silent, _accepting) = frozen().await;
    let (unanswering, _filling, _listener) = unanswering().await;
    for hosts in [vec![silent], vec![unanswering], vec![closed(), "no-such-host.invalid:1".into()]] {
        let store = connect(&behind(&hosts)).await.unwrap_or_else(|error| panic!("{hosts:?}: {error}"));
        DbMutex::new(store).unwrap().lock("job").acquire().await.unwrap().release().await.unwrap();
    }
}

#[tokio::test]
async fn an_error_names_each_host_and_its_cause() {
    let (silent, _accepting) = frozen().await;
    let closed = closed();
    let starting = refusing("57P03", "the database system is starting up", 1_000).await;
    let full = refusing("53300", "sorry, too many clients already", 1_000).await;
    let hosts = [silent.clone(), closed.clone(), "no-such-host.invalid:1".into(), starting.clone(), full.clone()];
    let error = connect(&only(&hosts)).await.unwrap_err();
    let text = error.to_string();
    for (host, cause) in [
        (silent.as_str(), "did not answer within"),
        (&closed, "Connection refused"),
        ("no-such-host.invalid:1", "a name without an address"),
        (&starting, "starting up"),
        (&full, "too many clients"),
    ] {
        let after = text.split_once(host).unwrap_or_else(|| panic!("{host} is missing: {text}")).1;
        let said = after.split(';').next().unwrap();
        assert!(said.contains(cause), "{host}{said} does not say {cause}");
        // Alone it is named too.
        let error = connect(&only(&[host.to_owned()])).await.unwrap_err();
        assert!(error.to_string().contains(host) && error.to_string().contains(cause), "{error}");
        assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    }
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(!crate::shown(&error).contains("s3cret-canary"));
}

#[tokio::test]
async fn refusals_that_pass_are_waited_for() {
    for (code, text) in [("57P03", "the database system is starting up"), ("53300", "sorry, too many clients already")]
    {
        let host = refusing(code, text, 2).await;
        connect(&only(&[host])).await.unwrap_or_else(|error| panic!("{code}: {error}"));
    }
}

#[tokio::test]
async fn hosts_may_be_a_parameter() {
    let url = server::url("postgres");
    let (login, place) = url.split_once('@').unwrap();
    let (address, rest) = place.split_once('/').unwrap();
    let (database, port) = (rest.split('?').next().unwrap(), address.split_once(':').unwrap().1);
    let url = format!("{login}@ignored/{database}?sslmode=disable&host=localhost,127.0.0.1&port={port}");
    connect(&url).await.unwrap();
}

#[tokio::test]
async fn a_name_with_several_addresses_leads_to_the_one_that_answers() {
    let url = server::url("postgres");
    let (login, place) = url.split_once('@').unwrap();
    let (server, rest) = place.split_once('/').unwrap();
    // With more than one, the first refuses.
    let last = tokio::net::lookup_host("localhost:0").await.unwrap().last().unwrap();
    let (listener, server) = (TcpListener::bind(last).await.unwrap(), server.to_owned());
    let url = format!("{login}@localhost:{}/{rest}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    });
    connect(&url).await.unwrap();
}

#[tokio::test]
async fn who_only_looks_at_locks_needs_no_server_that_accepts_writes() {
    let (table, role) = (fresh_table("looking"), crate::fresh("looking"));
    PostgresStore::builder().table(table.clone()).connect(&server::url("postgres")).await.unwrap();
    server::role(&role, &[("default_transaction_read_only", "on")]).await;
    let grant = format!("GRANT SELECT ON {table}, {table}_versions TO {role}");
    server::administrator().await.batch_execute(&grant).await.unwrap();
    let url = server::as_user(&behind(&[closed()]), &role);
    let builder = || PostgresStore::builder().table(table.clone());
    let store = builder().read_only(true).connect(&url).await.unwrap();
    assert!(store.list(&ListFilter::default()).await.unwrap().is_empty());
    let error = builder().connect(&url).await.unwrap_err();
    assert!(error.to_string().contains("accepts no writes"), "{error}");
}

/// The wait for a lock is also one for the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_lock_waits_for_the_server() {
    let proxy = Proxy::to(&server::url("postgres")).await;
    let mutex = DbMutex::new(connect(proxy.url()).await.unwrap()).unwrap();
    let host = proxy.url().split_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    mutex.lock("job").acquire().await.unwrap().release().await.unwrap();
    proxy.close();
    let error = mutex.lock("job").wait(Duration::from_secs(1)).acquire().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.source().unwrap().to_string().contains(&host), "{error:?}");
    let waiting = {
        let mutex = mutex.clone();
        tokio::spawn(async move { mutex.lock("job").wait(10 * LIMIT).acquire().await })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    proxy.open();
    waiting.await.unwrap().unwrap().release().await.unwrap();
}

/// Acquiring, renewing, waiting and releasing take turns on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_one_connection_is_enough() {
    let manager = Manager::new(server::url("postgres").parse().unwrap(), NoTls);
    let pool = Pool::builder(manager).max_size(1).build().unwrap();
    let store = PostgresStore::builder().table(fresh_table("one")).from_pool(pool).await.unwrap();
    let mutex = DbMutex::new(store).unwrap();
    let guard = mutex.lock("job").ttl(Duration::from_secs(3)).keep_alive(true).acquire().await.unwrap();
    let waiting = {
        let mutex = mutex.clone();
        tokio::spawn(async move { mutex.lock("job").wait(10 * LIMIT).acquire().await })
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(guard.is_valid(), "{:?}", guard.lost_reason());
    guard.release().await.unwrap();
    waiting.await.unwrap().unwrap().release().await.unwrap();
}

/// It could have three seconds, which are all that the caller has.
#[tokio::test]
async fn a_limit_is_shared_by_the_hosts_and_what_was_learnt_is_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let callers = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&callers);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        loop {
            silent.push(listener.accept().await.unwrap());
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let url = behind(&[silent]);
    let limit = Duration::from_secs(3);
    let builder = PostgresStore::builder().table(fresh_table("hosts")).connect_within(limit);
    let begun = Instant::now();
    builder.clone().connect(&url).await.unwrap();
    assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
    let before = callers.load(Ordering::SeqCst);
    assert!(before > 0);
    builder.connect(&url).await.unwrap();
    assert_eq!(callers.load(Ordering::SeqCst), before, "the host that does not answer was asked again");
}

/// More often than one request is repeated.
#[tokio::test]
async fn a_server_that_starts_is_waited_for() {
    let starting = refusing("57P03", "the database system is starting up", 12).await;
    connect(&only(&[starting])).await.unwrap();
}

/// As when a name leads to a standby that is about to be promoted.
#[tokio::test]
async fn a_server_that_accepts_no_writes_yet_is_waited_for() {
    server::role("no_writes_yet", &[("default_transaction_read_only", "on")]).await;
    let url = server::as_user(&server::url("postgres"), "no_writes_yet");
    let table = fresh_table("yet");
    let opening = PostgresStore::builder().table(table.clone()).connect_within(Duration::from_secs(60));
    let opening = tokio::spawn({
        let url = url.clone();
        async move { opening.connect(&url).await }
    });
    // Only for so long.
    let short = PostgresStore::builder().table(table).connect_within(Duration::from_millis(500));
    assert_eq!(short.connect(&url).await.unwrap_err().kind(), Kind::ReadOnly);
    assert!(!opening.is_finished());
    let writes = "ALTER ROLE no_writes_yet RESET default_transaction_read_only";
    server::administrator().await.batch_execute(writes).await.unwrap();
    let store = opening.await.unwrap().unwrap();
    DbMutex::new(store).unwrap().lock("job").acquire().await.unwrap().release().await.unwrap();
}
