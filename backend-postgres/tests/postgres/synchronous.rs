//! What a grant waits for, with any defaults of the role, and what a wait is worth that is cancelled.

use std::error::Error;
use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, LockStore, Renewed};
use db_mutex_core::{DbMutex, Ttl};
use db_mutex_postgres::deadpool_postgres::{Manager, Pool};
use db_mutex_postgres::tokio_postgres::{Client, NoTls};
use db_mutex_test_servers::OwnServer;
use tokio::time::sleep;

use crate::database::{MINUTE, builder, grant, id, insert, owner, release, renewal, table, until};
use crate::server::{administrator, as_user, connection, role, url};

/// Keeps the setting under which each row was written.
async fn watch_settings(admin: &Client, name: &str) {
    let table = table(name);
    let sql = format!(
        "CREATE TABLE {table}_seen (number bigserial, setting text);
         GRANT ALL ON {table}_seen, {table}_seen_number_seq TO PUBLIC;
         CREATE FUNCTION {table}_see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO {table}_seen (setting) VALUES (current_setting('synchronous_commit')); RETURN NULL;
         END $$;
         CREATE TRIGGER see AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_see();"
    );
    admin.batch_execute(&sql).await.unwrap();
}

/// The settings since the last question.
async fn seen(admin: &Client, name: &str) -> Vec<String> {
    let sql = format!(
        "WITH seen AS (DELETE FROM {}_seen RETURNING number, setting) SELECT setting FROM seen ORDER BY number",
        table(name)
    );
    admin.query(&sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_grant_and_a_renewal_wait_for_the_standbys_with_any_setting_of_the_role() {
    let admin = administrator().await;
    for (setting, expected) in
        [("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
    {
        let role_name = format!("commits_{setting}");
        role(&role_name, &[("synchronous_commit", setting)]).await;
        let url = as_user(&url("postgres"), &role_name);
        for ours in [true, false] {
            let name = format!("commit_{setting}_{ours}");
            let store = match ours {
                true => builder(&name).connect(&url).await.unwrap(),
                false => {
                    let manager = Manager::new(url.parse().unwrap(), NoTls);
                    let pool = Pool::builder(manager).max_size(1).build().unwrap();
                    builder(&name).from_pool(pool).await.unwrap()
                }
            };
            watch_settings(&admin, &name).await;
            let (owner, _) = grant(&store, "job", MINUTE).await;
            assert_eq!(seen(&admin, &name).await, [expected], "a grant where the role says {setting}, ours: {ours}");
            assert!(matches!(store.renew(&renewal("job", owner, MINUTE)).await.unwrap(), Renewed::Renewed(_)));
            assert_eq!(seen(&admin, &name).await, [expected], "a renewal where the role says {setting}, ours: {ours}");
            store.delete(&release("job", owner)).await.unwrap();
            assert_eq!(seen(&admin, &name).await, ["off"], "a release need not wait");
        }
    }
}

/// From now on commits wait for a standby that does not exist.
async fn let_commits_wait(admin: &Client) {
    set_standby(admin, "gone").await;
}

async fn set_standby(admin: &Client, name: &str) {
    admin.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")).await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let is_set =
        format!("SELECT count(*) FROM pg_settings WHERE name = 'synchronous_standby_names' AND setting = '{name}'");
    until(admin, &is_set, &[], 1).await;
    // It has read the setting, and told all processes, when it does this.
    admin.batch_execute("CHECKPOINT").await.unwrap();
}

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
const CANCEL: &str = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

/// Cancelling such a wait makes PostgreSQL report success, with a warning, although no standby has the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_wait_was_cancelled_is_repeated_until_it_is_confirmed() {
    let server = OwnServer::start("postgres-plain");
    let admin = connection(server.url()).await;
    // The warning is heard even where the session's default is to suppress warnings.
    let url = format!("{}&options=-c%20client_min_messages%3Derror", server.url());
    // A connection that was used before is waited for for a quarter of that.
    let store = builder("cancelled").statement_timeout(MINUTE).connect(&url).await.unwrap();
    let (held, _) = grant(&store, "held", MINUTE).await;
    let_commits_wait(&admin).await;
    let granting = {
        let (store, owner) = (store.clone(), owner());
        tokio::spawn(async move { store.insert_if_absent(&insert("job", owner, MINUTE)).await })
    };
    let renewing = tokio::spawn(async move { store.renew(&renewal("held", held, MINUTE)).await });
    for _ in 0..2 {
        until(&admin, WAITING, &[], 2).await;
        admin.query(CANCEL, &[]).await.unwrap();
        sleep(Duration::from_millis(200)).await;
        assert!(!granting.is_finished() && !renewing.is_finished(), "no standby has it");
    }
    until(&admin, WAITING, &[], 2).await;
    // As if the standby had come back.
    set_standby(&admin, "").await;
    assert!(matches!(granting.await.unwrap().unwrap(), Inserted::Granted(_)));
    assert!(matches!(renewing.await.unwrap().unwrap(), Renewed::Renewed(_)));
}

/// Otherwise a promotion of the standby would bring the lock back, forever. The commit of the release cannot be repeated, so
/// it is another one that is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_release_of_an_endless_lease_is_reported_only_when_a_standby_has_it() {
    let server = OwnServer::start("postgres-plain");
    let admin = connection(server.url()).await;
    let store = builder("endless").connect(server.url()).await.unwrap();
    for how in ["at once", "to rest", "by force"] {
        let owner = owner();
        let mut request = insert(how, owner, MINUTE);
        request.ttl = Ttl::NEVER;
        let Inserted::Granted(lease) = store.insert_if_absent(&request).await.unwrap() else { panic!("it is free") };
        let release = match how {
            "at once" => release(how, owner),
            "to rest" => release(how, owner).hold_at_least(60 * MINUTE),
            _ => DeleteRequest::by_fence(id(how), lease.fence),
        };
        let_commits_wait(&admin).await;
        let releasing = {
            let (store, release) = (store.clone(), release.clone());
            tokio::spawn(async move { store.delete(&release).await })
        };
        for _ in 0..2 {
            until(&admin, WAITING, &[], 1).await;
            admin.query(CANCEL, &[]).await.unwrap();
            sleep(Duration::from_millis(200)).await;
            assert!(!releasing.is_finished(), "no standby has the release {how}");
        }
        // Nor is a later request told that it has been released.
        let again = {
            let store = store.clone();
            tokio::spawn(async move { store.delete(&release).await })
        };
        until(&admin, WAITING, &[], 2).await;
        set_standby(&admin, "").await;
        assert_eq!(releasing.await.unwrap().unwrap(), Deleted::Released, "{how}");
        assert_eq!(again.await.unwrap().unwrap(), Deleted::Already, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_is_cancelled_again_and_again_is_not_believed_and_not_kept() {
    let server = OwnServer::start("postgres-plain");
    let admin = connection(server.url()).await;
    let store = builder("disbelieved").statement_timeout(Duration::from_secs(4)).connect(server.url()).await.unwrap();
    let mutex = DbMutex::new(store.clone()).unwrap();
    let_commits_wait(&admin).await;
    let cancelling = {
        let canceller = connection(server.url()).await;
        tokio::spawn(async move {
            loop {
                canceller.query(CANCEL, &[]).await.unwrap();
                sleep(Duration::from_millis(20)).await;
            }
        })
    };
    let error = mutex.lock("job").ttl(10 * MINUTE).acquire().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("cancelled before it had confirmed"), "{cause}");
    assert!(mutex.shutdown(MINUTE).await.is_empty());
    let held = format!("SELECT count(*) FROM {} WHERE owner IS NOT NULL", table("disbelieved"));
    until(&admin, &held, &[], 0).await;
    cancelling.abort();
}
