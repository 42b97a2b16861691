use db_mutex_core::StoreErrorKind;
use db_mutex_mysql::MySqlStore;

use crate::database::both;

const CANARY: &str = "s3cret-canary";

#[tokio::test]
async fn the_password_is_in_no_debug_and_no_error() {
    for database in both() {
        assert!(database.url.contains(CANARY), "the test servers' password has to be recognisable");
        let store = database.store().await;
        assert!(!format!("{store:?} {store:#?}").contains(CANARY));
        assert!(!format!("{:?}", MySqlStore::builder()).contains(CANARY));

        let place = database.url.rsplit_once('@').unwrap().1;
        let mut urls = vec![
            database.url.replace(CANARY, "s3cret-canary-wrong-"),
            database.url.replace("mysql://", "mysql:"),
            database.url.replace("mysql://", "redis://"),
            format!("{}?ssl-mode={CANARY}", database.url),
            format!("{}?{CANARY}=1", database.url),
            format!("{}?pool_min={CANARY}", database.url),
            format!("mysql://u:{CANARY}@no-such-host.invalid/db?ssl-mode=disabled"),
            format!("mysql://u:{CANARY}@127.0.0.1:1/db"),
            format!("mysql://u:{CANARY}%zz@{place}"),
        ];
        urls.push(urls[0].replace("/dbmutex", "/no_such"));
        for url in urls {
            let error = MySqlStore::connect(&url).await.unwrap_err();
            let mut told = format!("{error} {error:?} {error:#?}");
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                told += &format!(" {error} {error:?}");
                source = error.source();
            }
            assert!(!told.contains(CANARY), "{told}");
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_matter_of_configuration() {
    for database in both() {
        let error = MySqlStore::connect(&database.url.replace(CANARY, "wrong")).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config, "{error:?}");
        assert!(error.to_string().contains("refused the login"), "{error}");
    }
}
