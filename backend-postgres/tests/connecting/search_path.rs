//! Functions and types of another schema, in front of those of PostgreSQL in the role's search path: none is used.

use std::time::Duration;

use db_mutex_core::store::{DeleteRequest, Deleted, Inserted, ListFilter, LockStore, RenewRequest, Renewed, StoreTime};
use db_mutex_core::{LockId, TableName, Ttl};
use db_mutex_postgres::PostgresStore;

use crate::{fresh, fresh_table, request, server};

/// What is called in statements, with what it would return. Each fails when it is called, except for the clocks.
const FUNCTIONS: &[(&str, &str)] = &[
    ("current_setting(pg_catalog.text)", "pg_catalog.text"),
    ("set_config(pg_catalog.text, pg_catalog.text, boolean)", "pg_catalog.text"),
    ("md5(pg_catalog.text)", "pg_catalog.text"),
    ("unnest(pg_catalog.text[])", "SETOF pg_catalog.text"),
    ("unnest(pg_catalog.bytea[])", "SETOF pg_catalog.bytea"),
    ("unnest(bigint[])", "SETOF bigint"),
    ("date_part(pg_catalog.text, timestamptz)", "double precision"),
    ("extract(pg_catalog.text, timestamptz)", "numeric"),
    ("pg_notify(pg_catalog.text, pg_catalog.text)", "void"),
    ("pg_notification_queue_usage()", "double precision"),
    ("to_regclass(pg_catalog.text)", "regclass"),
    ("format_type(oid, integer)", "pg_catalog.text"),
    ("max(bigint)", "bigint"),
    ("version()", "pg_catalog.text"),
    ("pg_is_in_recovery()", "boolean"),
    ("pg_advisory_xact_lock(bigint)", "void"),
];

/// Makes a role whose search path begins with a schema that has other functions of these names; returns the role.
async fn misled_role() -> String {
    let (evil, role) = (fresh("evil"), fresh("misled"));
    server::role(&role, &[]).await;
    let mut sql = format!("CREATE SCHEMA {evil}; GRANT USAGE ON SCHEMA {evil} TO {role};");
    for (signature, returned) in FUNCTIONS {
        sql += &format!(
            "CREATE FUNCTION {evil}.{signature} RETURNS {returned} LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION '{evil}.{signature} was called'; END $$;"
        );
    }
    for clock in ["clock_timestamp", "statement_timestamp", "now", "transaction_timestamp"] {
        sql += &format!(
            "CREATE FUNCTION {evil}.{clock}() RETURNS timestamptz LANGUAGE sql
             AS $$ SELECT pg_catalog.clock_timestamp() + interval '1 day' $$;"
        );
    }
    sql += &format!(
        "CREATE AGGREGATE {evil}.count(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '1000000');
         CREATE DOMAIN {evil}.text AS pg_catalog.text CHECK (false);
         CREATE DOMAIN {evil}.bytea AS pg_catalog.bytea CHECK (false);
         CREATE DOMAIN {evil}.regclass AS pg_catalog.regclass CHECK (false);
         CREATE DOMAIN {evil}.oid AS pg_catalog.oid CHECK (false);
         ALTER ROLE {role} SET search_path = {evil}, pg_catalog, public"
    );
    server::administrator().await.batch_execute(&sql).await.unwrap();
    role
}

async fn now() -> StoreTime {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    StoreTime::from_micros(server::administrator().await.query_one(sql, &[]).await.unwrap().get(0))
}

#[tokio::test]
async fn no_function_and_no_type_of_another_schema_is_used() {
    let url = server::as_user(&server::url("postgres"), &misled_role().await);
    let builder = PostgresStore::builder().schema(TableName::new("public").unwrap()).table(fresh_table("path"));
    let store = builder.connect(&url).await.unwrap();
    let (first, minute) = (request("job"), Ttl::new(Duration::from_secs(60)).unwrap());

    let Inserted::Granted(lease) = store.insert_if_absent(&first).await.unwrap() else { panic!("not granted") };
    let tomorrow = now().await + Duration::from_secs(3_600);
    assert!(lease.expires_at < tomorrow, "another schema has set the clock: {lease:?}");
    let many: Vec<_> = ["a", "b", "c"].into_iter().map(request).collect();
    for answer in store.insert_many(&many).await {
        assert!(matches!(answer.unwrap(), Inserted::Granted(lease) if lease.expires_at < tomorrow));
    }
    let renewals: Vec<_> =
        many.iter().map(|request| RenewRequest::new(request.lock_id.clone(), request.owner, minute)).collect();
    for answer in store.renew_many(&renewals).await {
        assert!(matches!(answer.unwrap(), Renewed::Renewed(lease) if lease.expires_at < tomorrow));
    }
    assert!(matches!(store.insert_if_absent(&request("job")).await.unwrap(), Inserted::Held(_)));
    assert!(store.find(&first.lock_id).await.unwrap().unwrap().now < tomorrow);
    assert_eq!(store.list(&ListFilter::taken()).await.unwrap().len(), 4);

    let waited = tokio::time::Instant::now();
    let (longest, id) = (Duration::from_secs(30), LockId::new("job").unwrap());
    let release = DeleteRequest::by_owner(first.lock_id.clone(), first.owner);
    let (_, released) = tokio::join!(store.wait_for_release(&id, longest), async {
        // Long enough for the listener to listen and to mark the row.
        tokio::time::sleep(Duration::from_secs(2)).await;
        store.delete(&release).await.unwrap()
    });
    assert_eq!(released, Deleted::Released);
    assert!(waited.elapsed() < longest, "nothing woke who waited");

    let fence = store.find(&many[0].lock_id).await.unwrap().unwrap().fence;
    let by_fence = DeleteRequest::by_fence(many[0].lock_id.clone(), fence);
    assert_eq!(store.delete(&by_fence).await.unwrap(), Deleted::Released);
    let releases: Vec<_> =
        many[1..].iter().map(|request| DeleteRequest::by_owner(request.lock_id.clone(), request.owner)).collect();
    for answer in store.delete_many(&releases).await {
        assert_eq!(answer.unwrap(), Deleted::Released);
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(store.purge_expired(Duration::ZERO).await.unwrap(), 4);
    store.migrate().await.unwrap();
}
