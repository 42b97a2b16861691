//! etcd, through its gateway for JSON: a key for each lock id. The version is the revision of the key's last change, which etcd
//! never uses again.
//!
//! - etcd has no clock; its leases count down in the leader, and cannot be asked for the time. So the clocks are those of the
//!   clients, which must not differ by more than a lease's safety margin, 100 ms or 5 % of its TTL: see the documentation of
//!   `db_mutex::store::cas`.
//! - Reads are linearizable: the leader asks the others first.
//! - An endpoint that fails is left for the next one. If a swap was under way there, the kit finds out what has become of it.
//! - Without TLS and passwords, and a connection for each request: use a client of HTTP in earnest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, str};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use db_mutex_core::store::cas::{CompareAndSwap, Entry, Loaded, Page, Swapped, machine_clock};
use db_mutex_core::store::{LockId, async_trait};
use db_mutex_core::{StoreError, StoreErrorKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Locks below a prefix of keys.
#[derive(Debug)]
pub struct Etcd {
    endpoints: Vec<String>,
    current: AtomicUsize,
    prefix: String,
}

impl Etcd {
    /// Locks below `prefix`. Endpoints are `host:port`.
    pub fn new(endpoints: Vec<String>, prefix: impl Into<String>) -> Self {
        Self { endpoints, current: AtomicUsize::new(0), prefix: prefix.into() }
    }

    /// Sends a request to the current endpoint; if that fails, the next request goes to the next one.
    async fn post(&self, path: &str, body: &Value) -> Result<Value, StoreError> {
        let current = self.current.load(Ordering::Relaxed);
        let endpoint = &self.endpoints[current % self.endpoints.len()];
        let responded = exchange(endpoint, path, &body.to_string()).await;
        responded.map_err(|error| {
            self.current.store(current + 1, Ordering::Relaxed);
            StoreError::new(StoreErrorKind::Unavailable, format!("etcd at {endpoint} failed")).with_source(error)
        })
    }

    fn key(&self, id: &LockId) -> String {
        BASE64_STANDARD.encode(format!("{}{id}", self.prefix))
    }

    /// Does it if the key's last change is that revision; a key that is not there has 0.
    async fn change(&self, id: &LockId, revision: &str, change: Value) -> Result<Swapped, StoreError> {
        let unchanged = json!({ "key": self.key(id), "target": "MOD", "result": "EQUAL", "mod_revision": revision });
        let request = json!({ "compare": [unchanged], "success": [change] });
        let done = self.post("/v3/kv/txn", &request).await?["succeeded"] == true;
        Ok(if done { Swapped::Done } else { Swapped::Changed })
    }
}

/// One request, by HTTP 1.0, where the end of the response is the end of the connection.
async fn exchange(endpoint: &str, path: &str, body: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect(endpoint).await?;
    let length = body.len();
    stream.write_all(format!("POST {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    match response.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(serde_json::from_str(body)?),
        _ => Err(io::Error::other(response)),
    }
}

fn entry(kv: &Value) -> Result<Entry<String>, StoreError> {
    let decoded = BASE64_STANDARD.decode(kv["value"].as_str().unwrap_or_default());
    let value = decoded.map_err(|error| StoreError::new(StoreErrorKind::Other, "not etcd").with_source(error))?;
    Ok(Entry::new(value, kv["mod_revision"].as_str().unwrap_or_default().to_owned()))
}

fn kvs(range: &Value) -> &[Value] {
    range["kvs"].as_array().map_or(&[], Vec::as_slice)
}

#[async_trait]
impl CompareAndSwap for Etcd {
    type Version = String;

    async fn load(&self, id: &LockId) -> Result<Loaded<String>, StoreError> {
        let range = self.post("/v3/kv/range", &json!({ "key": self.key(id) })).await?;
        Ok(Loaded::new(kvs(&range).first().map(entry).transpose()?, machine_clock()))
    }

    async fn swap(&self, id: &LockId, expected: Option<&String>, value: &[u8]) -> Result<Swapped, StoreError> {
        let put = json!({ "request_put": { "key": self.key(id), "value": BASE64_STANDARD.encode(value) } });
        self.change(id, expected.map_or("0", String::as_str), put).await
    }

    async fn remove(&self, id: &LockId, expected: &String) -> Result<Swapped, StoreError> {
        self.change(id, expected, json!({ "request_delete_range": { "key": self.key(id) } })).await
    }

    /// The next page begins after the last key: with a zero byte at its end.
    async fn scan(&self, from: Option<&str>) -> Result<Page<String>, StoreError> {
        // No UTF-8 has this byte, so all keys of the prefix come before it.
        let end = BASE64_STANDARD.encode([self.prefix.as_bytes(), b"\xff"].concat());
        let from = from.map_or_else(|| BASE64_STANDARD.encode(&self.prefix), str::to_owned);
        let range = self.post("/v3/kv/range", &json!({ "key": from, "range_end": end, "limit": "500" })).await?;
        let entries = kvs(&range).iter().map(entry).collect::<Result<_, _>>()?;
        let page = Page::last(entries, machine_clock());
        let last = kvs(&range).last().filter(|_| range["more"] == true).and_then(|kv| kv["key"].as_str());
        Ok(match last.and_then(|key| BASE64_STANDARD.decode(key).ok()) {
            Some(key) => page.next(BASE64_STANDARD.encode([&key[..], b"\0"].concat())),
            None => page,
        })
    }
}
