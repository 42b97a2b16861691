use std::collections::HashMap;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockStore};

use crate::database::{Database, MINUTE, request, while_busy};
use crate::servers::{MARIADB, MYSQL};

/// What the holders of one id have seen.
#[derive(Default)]
struct Seen {
    inside: AtomicBool,
    latest: AtomicI64,
}

/// 16 workers, each with connections of its own, on 4 ids: no error, never two inside, fences rising.
async fn sixteen_workers_on_four_ids(name: &str, url: &str) {
    let seconds =
        env::var("DB_MUTEX_STRESS_SECONDS").map_or(10, |seconds| seconds.parse().expect("a number of seconds"));
    let database = Arc::new(Database::new(url));
    drop(database.store().await);
    let seen: Arc<Vec<Seen>> = Arc::new((0..4).map(|_| Seen::default()).collect());
    let (granted, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let errors: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let end = Instant::now() + Duration::from_secs(seconds);
    let workers: Vec<_> = (0..16_usize)
        .map(|number| {
            let (database, seen, granted) = (Arc::clone(&database), Arc::clone(&seen), Arc::clone(&granted));
            let (refused, errors) = (Arc::clone(&refused), Arc::clone(&errors));
            tokio::spawn(async move {
                let store = database.store().await;
                let mut turn = number;
                while Instant::now() < end {
                    turn += 1;
                    let request = request(&format!("id {}", turn % 4), MINUTE);
                    let seen = &seen[turn % 4];
                    match while_busy(|| store.insert_if_absent(&request)).await {
                        Ok(Inserted::Granted(lease)) => {
                            assert!(!seen.inside.swap(true, Ordering::SeqCst), "two hold {}", request.lock_id);
                            let before = seen.latest.swap(lease.fence.get(), Ordering::SeqCst);
                            assert!(before < lease.fence.get(), "fence {} came after {before}", lease.fence);
                            granted.fetch_add(1, Ordering::SeqCst);
                            seen.inside.store(false, Ordering::SeqCst);
                            let release = DeleteRequest::by_owner(request.lock_id.clone(), request.owner);
                            match while_busy(|| store.delete(&release)).await {
                                Ok(Deleted::Released) => {}
                                Ok(other) => panic!("a lock that is held for a minute was lost: {other:?}"),
                                Err(error) => *errors.lock().unwrap().entry(format!("{error:?}")).or_default() += 1,
                            }
                        }
                        Ok(Inserted::Held(_)) => {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(other) => panic!("a new owner was answered {other:?}"),
                        Err(error) => *errors.lock().unwrap().entry(format!("{error:?}")).or_default() += 1,
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let (granted, refused) = (granted.load(Ordering::SeqCst), refused.load(Ordering::SeqCst));
    println!("{name}: {granted} granted and released, {refused} refused, in {seconds} s");
    assert!(granted > 0);
    let errors = errors.lock().unwrap();
    assert!(errors.is_empty(), "errors that reached the caller: {errors:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_workers_on_four_ids_of_mariadb() {
    sixteen_workers_on_four_ids("MariaDB", &MARIADB).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_workers_on_four_ids_of_mysql() {
    sixteen_workers_on_four_ids("MySQL", &MYSQL).await;
}
