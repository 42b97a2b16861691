//! Redis or Valkey: a hash with a field for each lock id. The clock is the server's.
//!
//! - A lock is as durable as what the server has acknowledged. With `appendonly yes` and `appendfsync always` it survives a crash; by
//!   default the last second is lost, and with it grants. A replica that takes over may lose them too.
//! - All locks are in one hash, so in one slot of a cluster.

use db_mutex_core::store::cas::{CompareAndSwap, Entry, Loaded, Page, Swapped};
use db_mutex_core::store::{LockId, StoreTime, async_trait};
use db_mutex_core::{StoreError, StoreErrorKind};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisError, Script};
use tokio::sync::OnceCell;

/// The value and the clock, in one step.
const LOAD: &str = "return {redis.call('HGET', KEYS[1], ARGV[1]), redis.call('TIME')}";
/// The value is its version.
const SWAP: &str = "
    if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
    if ARGV[3] == '' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
    return 1";
const SCAN: &str = "
    local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 500)
    return {page[1], page[2], redis.call('TIME')}";

/// Seconds and microseconds.
type Time = (i64, i64);

/// Locks in a hash of Redis.
#[derive(Debug)]
pub struct Redis {
    client: Client,
    hash: String,
    /// It is tied to the runtime in which it was opened.
    connection: OnceCell<Shown>,
}

impl Redis {
    /// Locks in the hash with that key. The URL is `redis://[user:password@]host[:port]`.
    pub fn new(url: &str, hash: impl Into<String>) -> Result<Self, RedisError> {
        Ok(Self { client: Client::open(url)?, hash: hash.into(), connection: OnceCell::new() })
    }

    async fn call<R: redis::FromRedisValue>(&self, script: &str, arguments: &[&[u8]]) -> Result<R, StoreError> {
        let connect = || async {
            let config = ConnectionManagerConfig::new().set_number_of_retries(1);
            ConnectionManager::new_with_config(self.client.clone(), config).await.map(Shown)
        };
        let connected = self.connection.get_or_try_init(connect).await;
        let mut connection = connected.map_err(|error| failed(error).undone())?.0.clone();
        let script = Script::new(script);
        let mut call = script.key(&self.hash);
        for argument in arguments {
            call.arg(*argument);
        }
        call.invoke_async(&mut connection).await.map_err(failed)
    }

    async fn replace(&self, id: &LockId, expected: &[u8], value: &[u8]) -> Result<Swapped, StoreError> {
        let done: bool = self.call(SWAP, &[id.as_str().as_bytes(), expected, value]).await?;
        Ok(if done { Swapped::Done } else { Swapped::Changed })
    }
}

fn failed(error: RedisError) -> StoreError {
    let kind = match error.kind() {
        ErrorKind::ReadOnly => StoreErrorKind::ReadOnly,
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => StoreErrorKind::Config,
        _ => StoreErrorKind::Unavailable,
    };
    StoreError::new(kind, "Redis refused a request, or did not respond").with_source(error)
}

fn store_time((seconds, micros): Time) -> StoreTime {
    StoreTime::from_micros(seconds * 1_000_000 + micros)
}

#[async_trait]
impl CompareAndSwap for Redis {
    type Version = Vec<u8>;

    async fn load(&self, id: &LockId) -> Result<Loaded<Vec<u8>>, StoreError> {
        let (value, now): (Option<Vec<u8>>, Time) = self.call(LOAD, &[id.as_str().as_bytes()]).await?;
        Ok(Loaded::new(value.map(|value| Entry::new(value.clone(), value)), store_time(now)))
    }

    async fn swap(&self, id: &LockId, expected: Option<&Vec<u8>>, value: &[u8]) -> Result<Swapped, StoreError> {
        self.replace(id, expected.map_or(b"", Vec::as_slice), value).await
    }

    async fn remove(&self, id: &LockId, expected: &Vec<u8>) -> Result<Swapped, StoreError> {
        self.replace(id, expected, b"").await
    }

    async fn scan(&self, from: Option<&str>) -> Result<Page<Vec<u8>>, StoreError> {
        let from = from.unwrap_or("0").as_bytes();
        let (next, fields, now): (String, Vec<(Vec<u8>, Vec<u8>)>, Time) = self.call(SCAN, &[from]).await?;
        let entries = fields.into_iter().map(|(_, value)| Entry::new(value.clone(), value)).collect();
        let page = Page::last(entries, store_time(now));
        Ok(if next == "0" { page } else { page.next(next) })
    }

    /// With a connection in the runtime that uses it.
    fn for_background(&self) -> Option<Self> {
        Some(Self { client: self.client.clone(), hash: self.hash.clone(), connection: OnceCell::new() })
    }
}

/// A connection, of which `Debug` shows nothing.
#[derive(Clone)]
struct Shown(ConnectionManager);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}
