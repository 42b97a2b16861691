//! The `db-mutex` command, started as people start it: real processes, real signals, real SQLite files.
//!
//! The tests need Linux: they look into /proc, fill a disk of their own with unshare(1), and borrow a terminal from
//! script(1).
//!
//! | file | what is special there |
//! |---|---|
//! | `sandbox` | a folder, an environment and processes of a test's own, all gone with it |
//! | `running` | a process that was started, and what it said |
//! | `exclusion` | many processes at once |
//! | `crashes` | db-mutex killed with SIGKILL |
//! | `signals` | SIGINT, SIGTERM, SIGHUP and SIGQUIT, while the command runs |
//! | `signals_while_waiting` | the same while db-mutex waits for the lock |
//! | `lost_lease` | a lock that is lost while the command runs |
//! | `exit_codes` | the table of exit codes |
//! | `environment` | what the command sees |
//! | `default_file` | where the locks are if no place is named; permissions; files that are refused |
//! | `secrets` | URLs in files, and passwords that are not in the URL |
//! | `connecting` | servers that cannot be reached yet |
//! | `nesting` | runs inside of runs |
//! | `reading` | looking without the right to write |
//! | `watching` | `wait` and `list --watch` |
//! | `pages` | help and manual pages |
//! | `servers` | the private database servers |
//! | `bad_input` | what is refused, in one line |
//! | `full_disk` | a disk with no room for a lock |
//! | `inspect` | `list`, `show`, `release`, `purge`, `migrate` |
//! | `postgres` | the same on PostgreSQL |
//! | `terminal` | a command that reads from the terminal |
//! | `pty` | an interactive shell at a terminal of its own |
//! | `jobs` | keys, pipelines and job control at a terminal |
//! | `keeper` | db-mutex, its keeper and the command stopped or killed at the wrong moment |
//! | `matrix` | the table of docs/command.md, beside flock(1) |
//! | `release` | the database is away when the command ends |
//! | `predecessor` | the tests of django-db-mutex, by their names |
//! | `first_process` | the first process of a container |
//! | `tls` | whom the servers' certificates have to be from |

mod bad_input;
mod connecting;
mod crashes;
mod default_file;
mod environment;
mod exclusion;
mod exit_codes;
mod first_process;
mod full_disk;
mod inspect;
mod jobs;
mod keeper;
mod lost_lease;
mod matrix;
mod nesting;
mod pages;
mod postgres;
mod predecessor;
mod pty;
mod reading;
mod release;
mod running;
mod sandbox;
mod secrets;
mod servers;
mod signals;
mod signals_while_waiting;
mod terminal;
mod tls;
mod watching;
