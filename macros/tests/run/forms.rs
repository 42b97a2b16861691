//! The forms that a function can have. Each future is `Send`, as tasks need it.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use db_mutex::{DbMutex, Error, db_mutex, testing};

use crate::is_held;

fn send<T: Send>(future: T) -> T {
    future
}

struct App {
    mutex: DbMutex,
    name: String,
    log: Mutex<Vec<String>>,
    count: u32,
}

fn app() -> App {
    App { mutex: testing::mutex().0, name: "shop".into(), log: Mutex::default(), count: 0 }
}

impl App {
    fn log(&self, line: &str) {
        self.log.lock().expect("no test panics").push(line.into());
    }

    /// Doc comments stay.
    #[db_mutex("app-{self.name}", store = self.mutex)]
    #[must_use = "it is held"]
    pub(crate) async fn by_reference(&self, suffix: &str) -> Result<(bool, String), Error> {
        let held = is_held(&self.mutex, &format!("app-{}", self.name)).await;
        Ok((held, format!("{}{suffix}", self.name)))
    }

    #[db_mutex("app-{self.name}", store = self.mutex)]
    async fn borrowed(&self) -> Result<&str, Error> {
        Ok(&self.name)
    }

    #[db_mutex("app", store = &self.mutex)]
    async fn by_mutable_reference(&mut self, mut by: u32) -> Result<u32, Error> {
        by += 1;
        self.count += by;
        tokio::task::yield_now().await;
        Ok(self.count)
    }

    #[db_mutex("app-{self.name}", store = self.mutex)]
    async fn by_value(self) -> Result<Self, Error> {
        Ok(self)
    }

    #[db_mutex("app", store = self.mutex)]
    async fn in_an_arc(self: Arc<Self>) -> Result<usize, Error> {
        Ok(Arc::strong_count(&self))
    }

    #[db_mutex("outer", store = self.mutex)]
    #[db_mutex("inner", store = self.mutex)]
    async fn under_two(&self) -> Result<[bool; 2], Error> {
        Ok([is_held(&self.mutex, "outer").await, is_held(&self.mutex, "inner").await])
    }
}

#[tokio::test(start_paused = true)]
async fn methods() {
    let mut app = app();
    assert_eq!(send(app.by_reference("!")).await.unwrap(), (true, "shop!".into()));
    assert_eq!(send(app.borrowed()).await.unwrap(), "shop");
    assert_eq!(send(app.by_mutable_reference(1)).await.unwrap(), 2);
    assert_eq!(send(app.under_two()).await.unwrap(), [true, true]);
    let app = send(app.by_value()).await.unwrap();
    assert_eq!(send(Arc::new(app).in_an_arc()).await.unwrap(), 1);
}

#[db_mutex("generic-{value}", store = mutex)]
async fn generic<'a, T, const N: usize>(mutex: &DbMutex, value: &'a T, list: [u8; N]) -> Result<(&'a T, usize), Error>
where
    T: Display + Sync + ?Sized,
{
    tokio::task::yield_now().await;
    Ok((value, list.len()))
}

#[db_mutex("opaque", store = mutex)]
async fn opaque(
    mutex: &DbMutex,
    values: impl IntoIterator<Item = u32, IntoIter: Send> + Send,
    call: impl AsyncFn(u32) -> u32 + Send,
) -> Result<impl Debug + Send, Error> {
    let values: Vec<u32> = values.into_iter().collect();
    Ok((call(1).await, values))
}

#[db_mutex("coerced", store = mutex)]
async fn coerced(mutex: &DbMutex, early: bool) -> Result<Box<dyn Debug>, Error> {
    if early {
        return Ok(Box::new(1));
    }
    Ok(Box::new("late"))
}

#[db_mutex("dynamic", store = mutex)]
async fn dynamic(mutex: &DbMutex, call: &(dyn Fn(&str) -> String + Send + Sync)) -> Result<String, Error> {
    tokio::task::yield_now().await;
    Ok(call("x"))
}

#[db_mutex("callback", store = mutex)]
async fn callback(mutex: &DbMutex, call: Box<dyn FnOnce(&str) -> String + Send>) -> Result<String, Error> {
    tokio::task::yield_now().await;
    Ok(call("y"))
}

#[tokio::test(start_paused = true)]
async fn generics() {
    let (mutex, _clock) = testing::mutex();
    assert_eq!(send(generic(&mutex, "a", [1, 2])).await.unwrap(), ("a", 2));
    let made = opaque(&mutex, [1, 2], async |x| x + 1).await.unwrap();
    assert_eq!(format!("{made:?}"), "(2, [1, 2])");
    drop(made);
    assert_eq!(send(dynamic(&mutex, &|x| format!("{x}!"))).await.unwrap(), "x!");
    assert_eq!(send(callback(&mutex, Box::new(|y| format!("{y}?")))).await.unwrap(), "y?");
    assert_eq!(format!("{:?}", coerced(&mutex, true).await.unwrap()), "1");
    assert_eq!(format!("{:?}", coerced(&mutex, false).await.unwrap()), "\"late\"");
    let task = tokio::spawn(async move { generic(&mutex, &5, [0; 3]).await.map(|(_, length)| length) });
    assert_eq!(task.await.unwrap().unwrap(), 3);
}

#[async_trait]
trait Worker {
    async fn work(&self, id: u32) -> Result<String, Error>;
    async fn change(&mut self, (a, b): (u32, u32)) -> Result<u32, Error>;
    async fn quietly(&self);

    #[db_mutex("provided", store = self.mutex())]
    async fn provided(&self) -> Result<u8, Error>
    where
        Self: Sync,
    {
        Ok(3)
    }

    fn mutex(&self) -> &DbMutex;
}

#[async_trait]
impl Worker for App {
    #[db_mutex("work-{self.name}-{id}", store = self.mutex)]
    #[tracing::instrument(skip(self))]
    async fn work(&self, id: u32) -> Result<String, Error> {
        assert!(is_held(&self.mutex, &format!("work-{}-{id}", self.name)).await);
        self.log(&format!("work {id}"));
        if id == 0 {
            return Ok("early".into());
        }
        Ok(self.name.clone())
    }

    #[tracing::instrument(skip(self))]
    #[db_mutex("change", store = self.mutex, guard)]
    async fn change(&mut self, (a, b): (u32, u32)) -> Result<u32, Error> {
        assert!(guard.is_valid());
        self.count += a + b;
        Ok(self.count)
    }

    #[db_mutex("quietly-{self.name}", store = self.mutex, on_held = "skip")]
    async fn quietly(&self) {
        self.log("quietly");
    }

    fn mutex(&self) -> &DbMutex {
        &self.mutex
    }
}

#[tokio::test(start_paused = true)]
async fn with_async_trait() {
    let mut app = app();
    assert_eq!(send(app.work(1)).await.unwrap(), "shop");
    assert_eq!(app.work(0).await.unwrap(), "early");
    assert_eq!(send(app.change((1, 2))).await.unwrap(), 3);
    app.quietly().await;
    assert_eq!(app.provided().await.unwrap(), 3);
    let _other = app.mutex.lock("quietly-shop").acquire().await.unwrap();
    app.quietly().await;
    assert_eq!(*app.log.lock().unwrap(), ["work 1", "work 0", "quietly"]);
}

trait Plain {
    fn plain(&self) -> impl Future<Output = Result<u8, Error>> + Send;
}

impl Plain for App {
    #[db_mutex("plain", store = self.mutex)]
    async fn plain(&self) -> Result<u8, Error> {
        Ok(1)
    }
}

trait Provided {
    fn mutex(&self) -> &DbMutex;

    #[db_mutex("provided", store = self.mutex())]
    async fn provided(&self) -> Result<u8, Error> {
        Ok(4)
    }
}

impl Provided for DbMutex {
    fn mutex(&self) -> &DbMutex {
        self
    }
}

impl App {
    #[db_mutex("boxed-{id}", store = self.mutex)]
    fn boxed(&self, id: u32) -> Pin<Box<dyn Future<Output = Result<u32, Error>> + Send + '_>> {
        let twice = 2 * id;
        Box::pin(async move { Ok(twice) })
    }

    #[db_mutex("opaque", store = self.mutex, on_held = "skip")]
    #[allow(clippy::manual_async_fn, reason = "this form is tested")]
    fn opaque(&self) -> impl Future<Output = ()> + Send {
        async move { self.log("opaque") }
    }
}

#[tokio::test(start_paused = true)]
async fn functions_that_return_futures() {
    let app = app();
    assert_eq!(send(app.plain()).await.unwrap(), 1);
    assert_eq!(send(app.boxed(2)).await.unwrap(), 4);
    assert_eq!(app.mutex.provided().await.unwrap(), 4);
    send(app.opaque()).await;
    assert_eq!(*app.log.lock().unwrap(), ["opaque"]);
}

#[tracing::instrument(skip(mutex), err)]
#[db_mutex("above", store = mutex)]
async fn instrument_above(mutex: &DbMutex) -> Result<u8, Error> {
    Ok(1)
}

#[db_mutex("below", store = mutex)]
#[tracing::instrument(skip(mutex), err)]
async fn instrument_below(mutex: &DbMutex) -> Result<u8, Error> {
    Ok(2)
}

#[tokio::test(start_paused = true)]
async fn with_instrument() {
    let (mutex, _clock) = testing::mutex();
    assert_eq!(send(instrument_above(&mutex)).await.unwrap(), 1);
    assert_eq!(send(instrument_below(&mutex)).await.unwrap(), 2);
}

#[db_mutex("test", store = SHARED)]
#[tokio::test]
async fn above_another_attribute() -> Result<(), Error> {
    assert!(is_held(&SHARED, "test").await);
    Ok(())
}

static SHARED: LazyLock<DbMutex> =
    LazyLock::new(|| DbMutex::new(testing::MemoryStore::new()).expect("the defaults are valid"));

async fn open(mutex: &DbMutex) -> Result<Arc<DbMutex>, Error> {
    Ok(Arc::new(mutex.clone()))
}

#[db_mutex("awaited", store = open(mutex).await?)]
async fn awaited_store(mutex: &DbMutex) -> Result<u8, Error> {
    #![allow(unused_assignments)]
    let mut value = 1;
    value = 2;
    Ok(value)
}

#[db_mutex("guarded", store = *shared.lock().expect("no test panics"))]
async fn guarded_store(shared: &Mutex<DbMutex>) -> Result<u8, Error> {
    tokio::task::yield_now().await;
    Ok(3)
}

#[db_mutex("not-send-{id}", store = cell.borrow())]
async fn unsend_store(cell: std::rc::Rc<std::cell::RefCell<DbMutex>>, id: std::rc::Rc<u8>) -> Result<u8, Error> {
    Ok(*id)
}

#[tokio::test(start_paused = true)]
async fn stores_are_expressions() {
    let (mutex, _clock) = testing::mutex();
    assert_eq!(send(awaited_store(&mutex)).await.unwrap(), 2);
    assert_eq!(send(guarded_store(&Mutex::new(mutex.clone()))).await.unwrap(), 3);
    let cell = std::rc::Rc::new(mutex.into());
    assert_eq!(unsend_store(cell, 9.into()).await.unwrap(), 9);
}

/// Names that the generated code uses, too.
#[db_mutex("{lock}-{Guard}-{run}", store = db_mutex)]
#[allow(non_snake_case, reason = "the name of a type")]
async fn hygiene(db_mutex: &DbMutex, lock: u8, Guard: u8, run: u8) -> Result<u8, Error> {
    Ok(lock + Guard + run)
}

/// Writes functions, with names of its own and of its caller.
macro_rules! functions {
    ($name:ident, $id:literal, $argument:ident, $ttl:expr, $returned:ty) => {
        #[db_mutex($id, store = mutex, ttl = $ttl)]
        async fn $name(mutex: &DbMutex, $argument: u8) -> $returned {
            let lock = "job-5";
            Ok(is_held(mutex, lock).await)
        }

        mod inner {
            use super::*;

            #[db_mutex("inner-{number}", store = mutex)]
            pub(super) async fn $name(mutex: &DbMutex, number: u8) -> Result<bool, Error> {
                Ok(is_held(mutex, "inner-5").await)
            }
        }
    };
}

functions!(written_by_a_macro, "job-{number}", number, "30s", Result<bool, Error>);

#[tokio::test(start_paused = true)]
async fn names_do_not_collide() {
    let (mutex, _clock) = testing::mutex();
    assert_eq!(hygiene(&mutex, 1, 2, 3).await.unwrap(), 6);
    assert!(written_by_a_macro(&mutex, 5).await.unwrap());
    assert!(inner::written_by_a_macro(&mutex, 5).await.unwrap());
}
