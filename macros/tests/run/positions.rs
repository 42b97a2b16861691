//! Unusual places for the attribute, each of which works.

#![allow(clippy::non_minimal_cfg, clippy::multiple_bound_locations, reason = "they are what is unusual")]

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt::Display;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};

use db_mutex::{DbMutex, Error, db_mutex, testing};

use crate::is_held;

/// As many crates have it.
type Result<T = (), E = Error> = std::result::Result<T, E>;

/// An id with braces, in a doc comment with braces: `{nothing}`, `{{`.
#[doc = "And {another}."]
#[db_mutex(r#"{{"id": "{id}"}} — {{{{"#, store = mutex)]
async fn with_braces(mutex: &DbMutex, id: u8) -> Result<bool> {
    Ok(is_held(mutex, "{\"id\": \"7\"} — {{").await)
}

#[db_mutex("job", store = mutex)]
async fn with_an_alias_for_its_result(mutex: &DbMutex) -> Result {
    Ok(())
}

#[cfg_attr(all(), db_mutex("job", store = mutex))]
async fn behind_a_condition(mutex: &DbMutex) -> Result<bool> {
    Ok(is_held(mutex, "job").await)
}

#[db_mutex("{r#match}-{r#type}", store = mutex, guard = r#in)]
async fn r#async(mutex: &DbMutex, r#match: u8, r#type: &str) -> Result<String> {
    Ok(r#in.lock_id().to_string())
}

#[db_mutex("job", store = mutex)]
async fn with_attributes_on_its_arguments(
    #[allow(unused_variables)] mutex: &DbMutex,
    #[cfg(any())] missing: Missing,
    #[cfg(all())] there: u8,
) -> Result<u8> {
    Ok(there)
}

#[db_mutex("{a}-{b}-{c}", store = mutex, guard)]
async fn with_patterns(
    mutex: &DbMutex,
    [a, ..]: [u8; 3],
    (ref b, mut c): (String, u8),
    _: u8,
    PhantomData: PhantomData<u8>,
) -> Result<(String, u8)> {
    c += 1;
    Ok((format!("{} {b}", guard.lock_id()), c))
}

#[db_mutex("job-{}-{}", store = mutex)]
#[cfg(any())]
async fn of_another_configuration(mutex: &Missing) {}

#[db_mutex("job", store = mutex)]
async fn with_related_lifetimes<'a: 'b, 'b>(mutex: &DbMutex, long: &'a str, short: &'b str) -> Result<&'b str>
where
    'a: 'b,
{
    Ok(if long.len() > 3 { long } else { short })
}

#[db_mutex("job", store = mutex)]
async fn with_any_lifetime<F>(mutex: &DbMutex, call: F, with: for<'a> fn(&'a str) -> &'a str) -> Result<usize>
where
    F: for<'a> Fn(&'a str) -> &'a str + Send,
{
    Ok(with(call("abc")).len())
}

#[db_mutex("job", store = mutex.borrow())]
async fn with_any_error<M: Borrow<DbMutex>, E>(mutex: M, error: Option<E>) -> std::result::Result<(), E>
where
    E: From<Error> + Send,
{
    error.map_or(Ok(()), Err)
}

#[db_mutex("job", store = mutex)]
async fn with_opaque_parts(
    mutex: &DbMutex,
) -> Result<(impl Iterator<Item = u8> + use<>, Option<impl Display + use<>>)> {
    Ok((0..3, Some('x')))
}

#[db_mutex("job", store = mutex)]
async fn with_an_async_closure(mutex: &DbMutex, call: impl AsyncFnOnce(u8) -> u8) -> Result<u8> {
    Ok(call(1).await)
}

#[db_mutex("job", store = mutex)]
async fn with_all_ways_out(mutex: &DbMutex, number: Option<u8>) -> Result<u8> {
    let Some(number) = number else { return Ok(0) };
    let found = 'search: {
        for at in 1.. {
            if at == number {
                break 'search at;
            }
        }
        unreachable!()
    };
    mutex.find("job").await?.map(|_| found).map_or_else(|| Ok(1), Ok)
}

#[db_mutex("job", store = mutex, on_held = "skip")]
async fn that_never_fails(mutex: &DbMutex) -> Option<Result<u8, Infallible>> {
    Some(Ok(1))
}

const _: () = {
    #[allow(dead_code)]
    #[db_mutex("in-a-constant", on_held = "skip")]
    async fn unused() {}
};

struct Kind<T, const N: usize>(DbMutex, PhantomData<T>);

trait Named {
    const NAME: &'static str;
}

impl Named for u8 {
    const NAME: &'static str = "byte";
}

impl<T: Named + Send + Sync, const N: usize> Kind<T, N> {
    const LABEL: &'static str = "kind";

    #[db_mutex("{Self::LABEL}-{T::NAME}-{N:02}", store = self.0, guard)]
    pub(in crate::positions) async fn name<const M: usize>(&self, _: [u8; M]) -> Result<(String, usize)> {
        Ok((guard.lock_id().to_string(), M))
    }

    #[db_mutex("job", store = self.0)]
    async fn in_a_box(self: Box<Self>) -> Result<usize> {
        Ok(N)
    }

    #[db_mutex("job", store = self.0)]
    async fn pinned(self: Pin<&mut Self>) -> Result<usize> {
        Ok(N)
    }

    #[db_mutex("job", store = self.0)]
    async fn in_a_borrowed_arc(self: &Arc<Self>) -> Result<usize> {
        Ok(Arc::strong_count(self))
    }

    #[db_mutex("job", store = this.0)]
    async fn without_a_receiver(this: &Self) -> Result<usize> {
        #[db_mutex("nested-{inner}", store = mutex)]
        async fn nested(mutex: &DbMutex, inner: usize) -> Result<usize> {
            Ok(inner)
        }
        nested(&this.0, N).await
    }
}

#[db_mutex("job", store = mutex, on_held = "skip", blocking)]
extern "C" fn with_an_abi(mutex: &DbMutex, done: &mut bool) {
    *done = true;
}

#[db_mutex("job", store = mutex, blocking)]
#[track_caller]
fn that_borrows_for_long<'a>(mutex: &DbMutex, list: &'a mut Vec<u8>) -> Result<&'a mut u8> {
    list.push(1);
    list.last_mut().map_or_else(|| unreachable!(), Ok)
}

static SHARED: LazyLock<DbMutex> =
    LazyLock::new(|| DbMutex::new(testing::MemoryStore::new()).expect("the defaults are valid"));

#[db_mutex("above", store = super::positions::SHARED, blocking)]
#[test]
fn above_the_attribute_of_a_test() -> Result {
    assert!(SHARED.blocking().find("above")?.is_some());
    Ok(())
}

#[test]
#[db_mutex("below", store = SHARED, blocking)]
fn below_the_attribute_of_a_test() -> Result {
    assert!(SHARED.blocking().find("below")?.is_some());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn each_of_them_runs_under_its_lock() {
    let (mutex, _clock) = testing::mutex();
    assert!(with_braces(&mutex, 7).await.unwrap());
    with_an_alias_for_its_result(&mutex).await.unwrap();
    assert!(behind_a_condition(&mutex).await.unwrap());
    assert_eq!(r#async(&mutex, 1, "x").await.unwrap(), "1-x");
    assert_eq!(with_attributes_on_its_arguments(&mutex, 3).await.unwrap(), 3);
    let patterns = with_patterns(&mutex, [1, 2, 3], ("b".into(), 5), 0, PhantomData);
    assert_eq!(patterns.await.unwrap(), ("1-b-5 b".into(), 6));
    assert_eq!(with_related_lifetimes(&mutex, "long", "short").await.unwrap(), "long");
    assert_eq!(with_any_lifetime(&mutex, |text| text, |text| text).await.unwrap(), 3);
    with_any_error(mutex.clone(), Some(Box::<dyn std::error::Error + Send + Sync>::from("x"))).await.unwrap_err();
    let (numbers, text) = with_opaque_parts(&mutex).await.unwrap();
    assert_eq!((numbers.count(), text.unwrap().to_string()), (3, "x".into()));
    assert_eq!(with_an_async_closure(&mutex, async |number| number + 1).await.unwrap(), 2);
    assert_eq!(with_all_ways_out(&mutex, None).await.unwrap(), 0);
    assert_eq!(with_all_ways_out(&mutex, Some(5)).await.unwrap(), 5);
    assert_eq!(that_never_fails(&mutex).await, Some(Ok(1)));
}

#[tokio::test(start_paused = true)]
async fn methods_of_generic_types() {
    let mut kind = Box::new(Kind::<u8, 5>(testing::mutex().0, PhantomData));
    assert_eq!(kind.name([0; 3]).await.unwrap(), ("kind-byte-05".into(), 3));
    assert_eq!(Kind::without_a_receiver(&*kind).await.unwrap(), 5);
    assert_eq!(Pin::new(&mut *kind).pinned().await.unwrap(), 5);
    assert_eq!(Arc::new(Kind::<u8, 1>(kind.0.clone(), PhantomData)).in_a_borrowed_arc().await.unwrap(), 1);
    assert_eq!(kind.in_a_box().await.unwrap(), 5);
}

#[test]
fn functions_that_block() {
    let (mutex, mut done) = (testing::mutex().0, false);
    with_an_abi(&mutex, &mut done);
    assert!(done);
    let mut list = vec![0];
    *that_borrows_for_long(&mutex, &mut list).unwrap() += 1;
    assert_eq!(list, [0, 2]);
}
