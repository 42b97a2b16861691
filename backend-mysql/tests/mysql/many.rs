//! Many locks in one statement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use db_mutex_core::Ttl;
use db_mutex_core::admin::ListFilter;
use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockStore, RenewRequest, Renewed};
use db_mutex_mysql::MySqlStore;
use db_mutex_mysql::mysql_async::prelude::Queryable;

use crate::database::{MINUTE, both, busy, request, while_busy};
use crate::servers::pool_of;

/// Two batches that lock rows in different orders deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn batches_in_opposite_orders_all_end_well() {
    for database in both() {
        let workers: Vec<_> = (0..6)
            .map(|number| {
                let (url, table) = (database.url.clone(), database.table.clone());
                tokio::spawn(async move {
                    let store = MySqlStore::builder().table(table).pool_size(2).connect(&url).await.unwrap();
                    for _ in 0..20 {
                        let mut batch: Vec<_> = (0..20).map(|id| request(&format!("id {id}"), MINUTE)).collect();
                        if number % 2 == 0 {
                            batch.reverse();
                        }
                        let mut releases = Vec::new();
                        for (request, answer) in batch.iter().zip(store.insert_many(&batch).await) {
                            match answer {
                                Ok(Inserted::Granted(_)) => {
                                    releases.push(DeleteRequest::by_owner(request.lock_id.clone(), request.owner));
                                }
                                Ok(_) => {}
                                Err(_) => busy(answer),
                            }
                        }
                        for answer in store.delete_many(&releases).await {
                            assert_eq!(answer.unwrap(), Deleted::Released);
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
    }
}

/// A plan that reads the whole table is seen by the rows that the server reads.
#[tokio::test]
async fn many_ids_are_found_without_reading_the_whole_table() {
    for database in both() {
        let pool = pool_of(1, &database.url, "");
        let store = MySqlStore::builder().table(database.table.clone()).from_pool(pool.clone()).await.unwrap();
        let digits = (0..10).map(|digit| format!("SELECT {digit} AS i")).collect::<Vec<_>>().join(" UNION ALL ");
        let tables = ["a", "b", "c", "d", "e"].map(|name| format!("({digits}) AS {name}")).join(", ");
        let others = "CONCAT('other ', a.i, b.i, c.i, d.i, e.i), NULL, NULL, 5, 'h', 1, 2, 2, 1";
        let fill = format!("INSERT INTO {{t}} SELECT {others} FROM {tables}");
        database.run(&fill).await;
        let many: Vec<_> = (0..1_200).map(|number| request(&format!("job {number}"), MINUTE)).collect();
        // Of this very session, which the pool's one connection is.
        let rows_read = async || -> u64 {
            let mut connection = pool.get_conn().await.unwrap();
            let rows: Vec<(String, u64)> = connection
                .query("SHOW SESSION STATUS WHERE variable_name IN ('Handler_read_rnd_next', 'Handler_read_next')")
                .await
                .unwrap();
            rows.iter().map(|(_, count)| count).sum()
        };
        let before = rows_read().await;
        assert!(store.insert_many(&many).await.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))));
        assert!(store.insert_many(&many).await.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))));
        let renewals: Vec<_> =
            many.iter().map(|request| RenewRequest::new(request.lock_id.clone(), request.owner, Ttl::NEVER)).collect();
        assert!(store.renew_many(&renewals).await.iter().all(|answer| matches!(answer, Ok(Renewed::Renewed(_)))));
        let releases: Vec<_> =
            many.iter().map(|request| DeleteRequest::by_owner(request.lock_id.clone(), request.owner)).collect();
        assert!(store.delete_many(&releases).await.iter().all(|answer| matches!(answer, Ok(Deleted::Released))));
        assert!(store.delete_many(&releases).await.iter().all(|answer| matches!(answer, Ok(Deleted::Already))));
        let again: Vec<_> = many.iter().map(|before| request(before.lock_id.as_str(), MINUTE)).collect();
        assert!(store.insert_many(&again).await.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))));
        let read = rows_read().await - before;
        assert!(read < 50_000, "{read} rows were read for 1200 locks beside 100000 others");
    }
}

/// More than go into one statement, and more than a purge removes at a time.
#[tokio::test]
async fn thousands_are_acquired_released_and_purged() {
    for database in both() {
        let store = database.store().await;
        let many: Vec<_> = (0..2_500).map(|number| request(&format!("job {number}"), MINUTE)).collect();
        let answers = store.insert_many(&many).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok(Inserted::Granted(_)))));
        let releases: Vec<_> = many[..2_300]
            .iter()
            .map(|request| DeleteRequest::by_owner(request.lock_id.clone(), request.owner))
            .collect();
        let released = store.delete_many(&releases).await;
        assert!(released.iter().all(|answer| matches!(answer, Ok(Deleted::Released))));
        assert_eq!(store.purge_expired(MINUTE).await.unwrap(), 0);
        assert_eq!(store.purge_expired(Duration::ZERO).await.unwrap(), 2_300);
        assert_eq!(store.list(&ListFilter::all()).await.unwrap().len(), 200);
    }
}

/// The one that is not held makes the batch look at its rows, when another may already have been granted the others.
#[tokio::test(flavor = "multi_thread")]
async fn releases_of_a_batch_are_known_also_if_others_acquire_at_once() {
    for database in both() {
        let (store, others) = (database.store().await, database.store().await);
        let over = Arc::new(AtomicBool::new(false));
        let rivals: Vec<_> = (0..2)
            .map(|_| {
                let (others, over) = (others.clone(), Arc::clone(&over));
                tokio::spawn(async move {
                    while !over.load(Ordering::SeqCst) {
                        let rival = request("job", MINUTE);
                        if matches!(others.insert_if_absent(&rival).await, Ok(Inserted::Granted(_))) {
                            let release = DeleteRequest::by_owner(rival.lock_id.clone(), rival.owner);
                            while_busy(|| others.delete(&release)).await.unwrap();
                        }
                    }
                })
            })
            .collect();
        let absent = request("absent", MINUTE);
        let mut held = 0;
        while held < 100 {
            let mine = request("job", MINUTE);
            if matches!(store.insert_if_absent(&mine).await, Ok(Inserted::Granted(_))) {
                held += 1;
                let batch = [&absent, &mine].map(|held| DeleteRequest::by_owner(held.lock_id.clone(), held.owner));
                let mut answers = while_busy(async || match store.delete_many(&batch).await {
                    answers if answers.iter().all(Result::is_ok) => Ok(answers),
                    mut answers => answers.swap_remove(1).map(|answer| vec![Ok(Deleted::NotHeld), Ok(answer)]),
                })
                .await
                .unwrap();
                assert_eq!(answers.remove(1).unwrap(), Deleted::Released, "after {held}");
            }
        }
        over.store(true, Ordering::SeqCst);
        for rival in rivals {
            rival.await.unwrap();
        }
    }
}
