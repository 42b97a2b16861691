//! The kinds of functions that may block under the attribute.

use std::sync::{Arc, LazyLock};

use db_mutex::blocking::DbMutex;
use db_mutex::{Error, db_mutex};

use super::{is_held, mutex, watched};

struct Shop {
    locks: DbMutex,
    region: &'static str,
    stock: Vec<u32>,
}

impl Shop {
    #[db_mutex("stock-{self.region}-{shelf:02}", store = self.locks, blocking)]
    fn take(&mut self, shelf: usize) -> Result<u32, Error> {
        assert!(is_held(&self.locks, "stock-eu-01"));
        Ok(self.stock.remove(shelf))
    }

    #[db_mutex("stock-{self.region}", store = &self.locks, blocking)]
    fn into_stock(mut self, more: impl IntoIterator<Item = u32>) -> Result<Vec<u32>, Error> {
        self.stock.extend(more);
        Ok(self.stock)
    }

    #[db_mutex("stock", store = self.locks, blocking)]
    fn first<'a>(&'a self, or: &'a u32) -> Result<&'a u32, Error> {
        if let Some(first) = self.stock.first() {
            return Ok(first);
        }
        Ok(or)
    }
}

#[test]
fn methods() {
    watched(|| {
        let (locks, _clock) = mutex();
        let mut shop = Shop { locks, region: "eu", stock: vec![1, 2] };
        assert_eq!(shop.take(1).unwrap(), 2);
        assert_eq!(shop.first(&7).unwrap(), &1);
        assert_eq!(shop.into_stock([5]).unwrap(), [1, 5]);
    });
}

trait Job {
    fn run(&self) -> Result<u8, Error>;
}

impl Job for DbMutex {
    #[db_mutex("job", store = self, blocking)]
    fn run(&self) -> Result<u8, Error> {
        Ok(1)
    }
}

#[test]
fn methods_of_traits() {
    watched(|| {
        let (mutex, _clock) = mutex();
        assert_eq!(Job::run(&mutex).unwrap(), 1);
    });
}

#[db_mutex("job", store = open()?, blocking)]
fn opened() -> Result<u8, Error> {
    Ok(1)
}

fn open() -> Result<DbMutex, Error> {
    Ok(mutex().0)
}

static LOCKS: LazyLock<DbMutex> = LazyLock::new(|| mutex().0);

#[db_mutex("job", store = LOCKS, on_held = "skip", blocking)]
fn of_a_static(count: &mut u32) {
    *count += 1;
}

#[db_mutex("job", store = mutex, blocking)]
fn of_an_async_mutex(mutex: Arc<db_mutex::DbMutex>) -> Result<u8, Error> {
    Ok(1)
}

/// Both forms of the same lock exclude each other.
#[db_mutex("job", store = mutex, on_held = "skip")]
async fn asynchronous(mutex: &DbMutex) -> Option<u8> {
    Some(1)
}

#[test]
fn mutexes_of_all_kinds() {
    watched(|| {
        assert_eq!(opened().unwrap(), 1);
        let mut count = 0;
        of_a_static(&mut count);
        assert_eq!(count, 1);
        let (mutex, _clock) = mutex();
        assert_eq!(of_an_async_mutex(Arc::new(mutex.clone().into())).unwrap(), 1);
        let _held = mutex.lock("job").acquire().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(asynchronous(&mutex)), None);
    });
}

#[db_mutex("{name}", store = mutex, blocking)]
fn generic<T: Clone, const N: usize>(
    mutex: &DbMutex,
    name: &str,
    value: T,
) -> Result<[T; N], Box<dyn std::error::Error>> {
    #![allow(clippy::needless_return)]
    if name == "bad" {
        Err("its own")?;
    }
    return Ok(std::array::from_fn(|_| value.clone()));
}

#[db_mutex("job", store = mutex, blocking)]
fn opaque(mutex: &DbMutex, Shape { sides }: Shape) -> Result<impl Iterator<Item = u32> + use<>, Error> {
    Ok(0..sides)
}

struct Shape {
    sides: u32,
}

#[test]
fn signatures() {
    watched(|| {
        let (mutex, _clock) = mutex();
        assert_eq!(generic::<_, 2>(&mutex, "good", "x").unwrap(), ["x", "x"]);
        assert_eq!(generic::<_, 2>(&mutex, "bad", 1).unwrap_err().to_string(), "its own");
        assert!(generic::<_, 2>(&mutex, "", 1).is_err());
        assert_eq!(opaque(&mutex, Shape { sides: 3 }).unwrap().count(), 3);
    });
}
