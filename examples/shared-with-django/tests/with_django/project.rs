use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use db_mutex_core::DbMutex;
use shared_with_django::{DjangoPostgres, DjangoSqlite};
use tempfile::TempDir;

/// Runs each of the tests on both databases.
macro_rules! on_both {
    ($($test:ident)*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::project::Database::Sqlite).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::project::Database::Postgres).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// A Django project with a database, or a schema, of its own.
pub(crate) struct Project {
    folder: TempDir,
    database: String,
    ttl: Option<Duration>,
    trying: Mutex<Option<DjangoProcess>>,
}

impl Project {
    /// A project with this `DB_MUTEX_TTL_SECONDS`, whose tables Django has made.
    pub(crate) fn with_ttl(database: Database, ttl: Option<Duration>) -> Self {
        let folder = TempDir::with_prefix("with-django-").expect("a folder");
        let database = match database {
            Database::Sqlite => folder.path().join("db.sqlite3").to_str().expect("UTF-8").to_owned(),
            Database::Postgres => url_of_new_schema(),
        };
        let project = Self { folder, database, ttl, trying: Mutex::default() };
        assert!(project.django(&["migrate"]).status().expect("Python runs").success());
        project
    }

    pub(crate) fn new(database: Database) -> Self {
        Self::with_ttl(database, Some(secs(30 * 60)))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The SQLite file, or the URL of the PostgreSQL server.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// A job of `django/jobs.py`, to be started.
    pub(crate) fn django(&self, arguments: &[&str]) -> Command {
        let python = std::env::var_os("DJANGO_PYTHON").expect(
            "DJANGO_PYTHON names a Python that has the packages of django/requirements.txt; scripts/test-django sets it",
        );
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/django/jobs.py")).args(arguments);
        command.env("DATABASE", self.database()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("DB_MUTEX_TTL_SECONDS", self.ttl.map_or("none".into(), |ttl| ttl.as_secs_f64().to_string()));
        command.stdin(Stdio::null());
        command
    }

    /// Whether Django acquires the lock now. It releases it at once. One process of Django serves all questions.
    pub(crate) fn is_free_to_django(&self, lock_id: &str) -> bool {
        let mut started = self.trying.lock().expect("no other thread asks");
        let trying = started.get_or_insert_with(|| DjangoProcess::start(self.django(&["try"])));
        let stdin = trying.stdin.as_mut().expect("it is open until the end");
        writeln!(stdin, "{lock_id}").expect("the process runs");
        match &*line(&mut trying.says) {
            "acquired" => true,
            "held" => false,
            other => panic!("Django says {other:?}"),
        }
    }

    /// A Django process that holds the lock.
    pub(crate) fn django_holds(&self, lock_id: &str) -> DjangoProcess {
        let mut holder = DjangoProcess::start(self.django(&["hold", lock_id]));
        assert_eq!(line(&mut holder.says), "acquired");
        holder
    }

    /// A Rust process of its own has a store like this.
    pub(crate) async fn mutex(&self) -> DbMutex {
        let mutex = if self.database.starts_with("postgres") {
            // Here all processes have the clock of this machine.
            DbMutex::new(self.postgres().await.margin(Duration::ZERO))
        } else {
            DbMutex::new(DjangoSqlite::open(&self.database, self.ttl).await.expect("a database of Django"))
        };
        mutex.expect("valid defaults")
    }

    pub(crate) async fn postgres(&self) -> DjangoPostgres {
        DjangoPostgres::connect(&self.database, self.ttl).await.expect("a database of Django")
    }
}

/// The schema is made by `jobs.py migrate`.
fn url_of_new_schema() -> String {
    static SCHEMAS: AtomicU32 = AtomicU32::new(0);
    let url = std::env::var("DATABASE_URL").expect("DATABASE_URL names a database; scripts/test-django starts one");
    let separator = if url.contains('?') { '&' } else { '?' };
    let schema = format!("project_{}_{}", std::process::id(), SCHEMAS.fetch_add(1, Ordering::Relaxed));
    format!("{url}{separator}options=-csearch_path%3D{schema}")
}

pub(crate) struct DjangoProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    says: BufReader<ChildStdout>,
}

impl DjangoProcess {
    fn start(mut job: Command) -> Self {
        let mut child = job.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python runs");
        let says = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { stdin: child.stdin.take(), child, says }
    }

    /// Lets the job end, and returns how it ended.
    pub(crate) fn end(mut self) -> String {
        self.stdin = None;
        line(&mut self.says)
    }
}

impl Drop for DjangoProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker says first. It says nothing else.
pub(crate) fn first_line(worker: &mut Child) -> String {
    line(&mut BufReader::new(worker.stdout.take().expect("a pipe")))
}

fn line(says: &mut impl BufRead) -> String {
    let mut line = String::new();
    says.read_line(&mut line).expect("text");
    line.trim_end().to_owned()
}

/// Waits until `holds`, for half a minute at most.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < secs(30), "after half a minute it is still not so that {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
