//! A primary that dies, and a standby that takes over without having received all: what is lost, and what is not.

use std::time::{Duration, Instant};

use db_mutex_core::store::{Inserted, LockStore, Renewed};
use db_mutex_test_servers::OwnPair;
use tokio::time::sleep;

use crate::database::{MINUTE, ask, builder, grant, id, mutex, renewal, table, until};
use crate::failover::{Grants, promotions};
use crate::server::connection;

/// From now on nothing reaches the standby.
async fn stop_receiving(url: &str) {
    let standby = connection(url).await;
    standby.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await.unwrap();
    standby.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until(&standby, "SELECT count(*) FROM pg_stat_wal_receiver", &[], 0).await;
}

/// What is documented: without synchronous replication, a promotion undoes grants that were acknowledged. The fence does not
/// repeat all the same, because it is at least the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_asynchronous_standby_a_promotion_loses_grants_and_repeats_no_fence() {
    let pair = OwnPair::start();
    let url = pair.url_of_both([0, 1]);
    let store = builder("asynchronous").connect(&url).await.unwrap();
    let (earlier, _) = grant(&store, "replicated", MINUTE).await;
    let both = connection(pair.url_of(1)).await;
    // Its table first, without which the question would be an error.
    let table_is_there = "SELECT count(*) FROM pg_class WHERE relname = $1";
    until(&both, table_is_there, &[&table("asynchronous").as_str()], 1).await;
    let is_there = format!("SELECT count(*) FROM {} WHERE lock_id = 'replicated'", table("asynchronous"));
    until(&both, &is_there, &[], 1).await;
    stop_receiving(pair.url_of(1)).await;
    let (lost, first) = grant(&store, "lost", MINUTE).await;
    pair.kill(0);
    pair.promote(1);
    assert!(matches!(ask(&store, "replicated", MINUTE).await.unwrap(), Inserted::Held(_)));
    assert!(matches!(store.renew(&renewal("replicated", earlier, MINUTE)).await.unwrap(), Renewed::Renewed(_)));
    assert!(store.find(&id("lost")).await.unwrap().is_none(), "it was not replicated");
    let (_, second) = grant(&store, "lost", MINUTE).await;
    assert!(second.fence > first.fence, "{second:?} after {first:?}");
    assert!(matches!(store.renew(&renewal("lost", lost, MINUTE)).await.unwrap(), Renewed::NotHeld));
}

/// `DB_MUTEX_PROMOTIONS` says how often. Each time, the primary is killed under load. Every other time its standby has received
/// nothing for a while; otherwise it is only as far behind as it happens to be.
///
/// What is lost is granted again, so it has two holders, and nothing else is. No fence repeats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_promotion_has_two_holders_of_what_is_lost_and_of_nothing_else() {
    let pair = OwnPair::start();
    let url = pair.url_of_both([0, 1]);
    let again = builder("asynchronous_grants").pool_size(4).connect(&url).await.unwrap();
    let held = builder("asynchronous_grants").statement_timeout(Duration::from_secs(4)).connect(&url).await.unwrap();
    let held = mutex(&held);
    let (grants, collecting) = Grants::start("asynchronous_grants", &url).await;
    let (mut primary, mut standby) = (0, 1);
    let (mut lost_in_all, mut longest) = (0, Duration::ZERO);
    for promotion in 1..=promotions(1) {
        sleep(Duration::from_millis(500)).await;
        let is_behind = promotion % 2 == 1;
        let mut guard = None;
        let behind = Instant::now();
        if is_behind {
            stop_receiving(pair.url_of(standby)).await;
            let lock = held.lock(format!("held-{promotion}")).ttl(Duration::from_secs(15)).keep_alive(true);
            guard = Some(lock.acquire().await.unwrap());
            sleep(Duration::from_millis(300)).await;
        }
        pair.kill(primary);
        let behind = if is_behind { behind.elapsed() } else { Duration::ZERO };
        pair.promote(standby);
        let (acknowledged, lost) = grants.lost(pair.url_of(standby)).await;
        assert!(!is_behind || !lost.is_empty(), "the standby was not behind, so this shows nothing");
        let mut regranted = grants.acknowledged.lock().await;
        for lost in &lost {
            let (owner, lease) = grant(&again, &lost.name, 60 * MINUTE).await;
            let fence = lease.fence.get();
            assert!(fence > lost.fence, "{}: {fence} after {}", lost.name, lost.fence);
            let place = regranted.iter_mut().find(|grant| grant.name == lost.name).unwrap();
            (place.owner, place.fence) = (owner, fence);
        }
        drop(regranted);
        lost_in_all += lost.len();
        print!(
            "promotion {promotion}: the standby had received nothing for {behind:.1?}; {} of {acknowledged} grants are lost",
            lost.len()
        );
        if let Some(guard) = guard {
            // A second holder, while the first one believes to hold the lock until it hears otherwise.
            let taken = Instant::now();
            let name = format!("held-{promotion}");
            let second = mutex(&again).lock(name.as_str()).acquire().await.unwrap();
            assert!(second.fence() > guard.fence(), "{:?} after {:?}", second.fence(), guard.fence());
            let reason = guard.lost().await;
            longest = longest.max(taken.elapsed());
            print!("; a lock with a TTL of 15 s had two holders for {:.1?}, then the first: {reason}", taken.elapsed());
            second.release().await.unwrap();
        }
        println!();
        pair.follow(primary);
        (primary, standby) = (standby, primary);
        // All that was acknowledged and not lost is there, and all that was granted again.
        let (acknowledged, lost) = grants.lost(pair.url_of(primary)).await;
        assert!(lost.is_empty(), "{} of {acknowledged} grants are lost that the standby had received", lost.len());
    }
    grants.end(collecting).await;
    let acknowledged = grants.acknowledged.lock().await.len();
    println!(
        "{lost_in_all} of {acknowledged} acknowledged grants were lost, each was granted again with a greater fence; two holders \
         for {longest:.1?} at most"
    );
}
