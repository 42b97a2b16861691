//! Requests that are sent again: what the server has undone, and what it may have done.

use std::time::Duration;

use db_mutex_core::StoreErrorKind;
use db_mutex_core::store::{Inserted, LockStore};
use db_mutex_test_servers::Proxy;

use crate::database::{MINUTE, builder, grant, insert, owner, release, table};
use crate::server::{administrator, url};

/// Lets the server undo the first deletes of a table, as it does in a conflict with another transaction.
async fn let_deletes_conflict(table: &str, times: u32) {
    let sql = format!(
        "CREATE SEQUENCE {table}_conflicts;
         GRANT USAGE ON {table}_conflicts TO PUBLIC;
         CREATE FUNCTION {table}_conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             -- A sequence is not rolled back.
             IF nextval('{table}_conflicts') <= {times} THEN
                 RAISE EXCEPTION 'in conflict' USING ERRCODE = 'serialization_failure';
             END IF;
             RETURN OLD;
         END $$;
         CREATE TRIGGER conflict BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_conflict();"
    );
    administrator().await.batch_execute(&sql).await.unwrap();
}

/// Under SERIALIZABLE, a purge is in conflict with each acquisition and each release that commits meanwhile. On a busy machine
/// that can happen many times in a row.
#[tokio::test]
async fn a_purge_in_conflict_is_repeated_while_it_has_time() {
    let store = builder("conflicts").connect(&url("postgres")).await.unwrap();
    let (owner, _) = grant(&store, "job", MINUTE).await;
    store.delete(&release("job", owner)).await.unwrap();
    let_deletes_conflict(table("conflicts").as_str(), 8).await;
    assert_eq!(store.purge_expired(Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test]
async fn a_purge_that_is_always_in_conflict_ends_in_time() {
    let limit = Duration::from_secs(1);
    let store = builder("always").statement_timeout(limit).connect(&url("postgres")).await.unwrap();
    let (owner, _) = grant(&store, "job", MINUTE).await;
    store.delete(&release("job", owner)).await.unwrap();
    let_deletes_conflict(table("always").as_str(), u32::MAX).await;
    let error = store.purge_expired(Duration::ZERO).await.unwrap_err();
    // On a busy machine the last attempt may get no answer in time: then it is not known that nothing was done.
    let is_busy = error.kind() == StoreErrorKind::Busy;
    assert!(error.is_transient() && error.is_undone() == is_busy, "{error:?}");
}

/// PgBouncer before 1.19 may pass on a request to cancel to a connection that serves another client by then; and an administrator
/// may cancel the wrong statement.
#[tokio::test]
async fn a_cancelled_request_is_repeated() {
    let store = builder("cancelled").connect(&url("postgres")).await.unwrap();
    let sql = format!(
        "CREATE SEQUENCE {table}_cancels;
         GRANT USAGE ON {table}_cancels TO PUBLIC;
         CREATE FUNCTION {table}_cancel() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('{table}_cancels') <= 2 THEN
                 PERFORM pg_cancel_backend(pg_backend_pid());
                 PERFORM pg_sleep(60);
             END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER cancelled BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_cancel();",
        table = table("cancelled")
    );
    administrator().await.batch_execute(&sql).await.unwrap();
    let answer = store.insert_if_absent(&insert("job", owner(), MINUTE)).await;
    assert!(matches!(answer, Ok(Inserted::Granted(_))), "{answer:?}");
}

/// The first form of the statement is done twice, because its first reply is lost, and decides nothing both times. Then the second
/// form meets a locked row, which says nothing about the first.
#[tokio::test]
async fn an_acquisition_whose_reply_was_lost_and_that_then_meets_a_locked_row_is_unknown() {
    let proxy = Proxy::to(&url("postgres")).await;
    for many in [false, true] {
        let name = format!("unknown_{many}");
        let store = builder(&name).pool_size(1).connect(proxy.url()).await.unwrap();
        let requests: Vec<_> = (0..1 + usize::from(many)).map(|number| format!("job-{number}")).collect();
        // So that the statement is prepared, and the next reply is that of the statement.
        let inserts = |ids: &[String]| ids.iter().map(|id| insert(id, owner(), MINUTE)).collect::<Vec<_>>();
        let warm: Vec<_> = requests.iter().map(|id| format!("warm-{id}")).collect();
        assert!(store.insert_many(&inserts(&warm)).await.iter().all(Result::is_ok));
        let inserted_twice = 2 * requests.len();
        let sql = format!(
            "CREATE SEQUENCE {table}_inserts;
             CREATE FUNCTION {table}_insert() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('{table}_inserts') > {inserted_twice} THEN
                     RAISE EXCEPTION 'locked' USING ERRCODE = 'lock_not_available';
                 END IF;
                 RETURN NULL;
             END $$;
             CREATE TRIGGER inserted BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_insert();",
            table = table(&name)
        );
        administrator().await.batch_execute(&sql).await.unwrap();
        proxy.lose_the_next_reply();
        for answer in store.insert_many(&inserts(&requests)).await {
            let error = answer.unwrap_err();
            let seen = (error.kind(), error.is_undone());
            assert_eq!(seen, (StoreErrorKind::Unavailable, false), "many: {many}, {error:?}");
        }
    }
}
