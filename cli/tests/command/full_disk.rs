use std::process::Command;

use crate::running::Finished;
use crate::sandbox::{Sandbox, count, open};

/// Runs a shell script in which `disk` is a disk of 200 kB, `$db` db-mutex with its locks there, and `fill` fills the disk
/// to the last byte; as root, or as a user who may have a user namespace.
fn on_a_small_disk(sandbox: &Sandbox, script: &str) -> Finished {
    let id = Command::new("id").arg("--user").output().expect("id");
    let rights = if id.stdout == b"0\n" { "--mount" } else { "--map-root-user" };
    std::fs::create_dir(sandbox.path("disk")).expect("a folder to mount on");
    let prelude = "set -eu; mount -t tmpfs -o size=200k db-mutex-test disk\n\
        fill() { dd if=/dev/zero of=disk/filler bs=4k 2> noise && exit 99; grep -q 'No space' noise; }\n";
    let mut unshare = sandbox.program("unshare");
    unshare.args([rights, "--mount", "sh", "-c"]).arg(format!("{prelude}{script}"));
    unshare.env("db", env!("CARGO_BIN_EXE_db-mutex")).env("DB_MUTEX_URL", "sqlite:disk/locks.db");
    sandbox.spawn(unshare).wait()
}

/// What was refused, and that nothing is left of it when there is room again.
fn assert_refused_for_want_of_room(sandbox: &Sandbox, ended: &Finished) {
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert_eq!(sandbox.read("code"), "125\n", "{ended:?}");
    let line = ended.stderr.strip_suffix('\n').unwrap_or_default();
    assert!(line.starts_with("db-mutex: ") && line.contains("the disk is full") && !line.contains('\n'), "{ended:?}");
    assert_eq!(sandbox.read("started"), "");
    assert_eq!(sandbox.read("rows"), "[]\n");
    assert!(sandbox.read("show").contains("free"), "{}", sandbox.read("show"));
}

const REFUSE: &str = "fill; code=0; $db run job -c 'echo started > started' || code=$?; echo $code > code\n";
/// Makes room, and reads the rows before and after a lock can be acquired again.
const AFTERWARDS: &str =
    "rm disk/filler; $db migrate; $db list --all --json > rows; $db run job -- true; $db show job > show\n";

#[test]
fn a_new_file_on_a_full_disk_says_so() {
    let sandbox = Sandbox::new();
    let ended = on_a_small_disk(&sandbox, &format!("{REFUSE}{AFTERWARDS}"));
    assert_refused_for_want_of_room(&sandbox, &ended);
}

/// Its write-ahead log and the shared memory beside it have to be made anew.
#[test]
fn a_file_at_rest_on_a_full_disk_says_so() {
    let sandbox = Sandbox::new();
    sandbox.run(["--url", "sqlite:ready.db", "migrate"]).assert_silent_success();
    // The last connection that is closed properly takes the log with it.
    assert_eq!(count(&open(&sandbox.path("ready.db")), "db_mutex_locks"), 0);
    assert!(!sandbox.path("ready.db-wal").exists());
    let ended = on_a_small_disk(&sandbox, &format!("cp ready.db disk/locks.db; {REFUSE}{AFTERWARDS}"));
    assert_refused_for_want_of_room(&sandbox, &ended);
}

/// Its write-ahead log is there, and only has to grow.
#[test]
fn a_file_in_use_on_a_full_disk_says_so() {
    let sandbox = Sandbox::new();
    let hold = "$db migrate; $db --table other run other -c 'echo > held; until [ -e go ]; do sleep 0.05; done' &\n\
        until [ -e held ]; do sleep 0.05; done\n";
    let ended = on_a_small_disk(&sandbox, &format!("{hold}{REFUSE}{AFTERWARDS}echo > go; wait\n"));
    assert_refused_for_want_of_room(&sandbox, &ended);
}
