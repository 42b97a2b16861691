use std::fs;
use std::process::{Child, Command, Stdio};

use crate::project::{Database, Project, first_line, on_both};

on_both! {
    a_counter_under_the_lock_loses_nothing
}

const TIMES: usize = 50;

/// Two workers of each kind read a number, wait, and write it again. With a lock each, most increments are lost.
async fn a_counter_under_the_lock_loses_nothing(database: Database) {
    let project = Project::new(database);
    let counter = project.path("counter");
    let (counter_text, times) = (counter.to_str().unwrap(), TIMES.to_string());
    let mut workers: Vec<Child> = Vec::new();
    for kind in ["django", "rust", "django", "rust"] {
        let mut worker = match kind {
            "django" => project.django(&["count", counter_text, &times]),
            _ => {
                let mut rust = Command::new(env!("CARGO_BIN_EXE_shared-with-django"));
                rust.arg(project.database()).args([counter_text, &times]);
                rust
            }
        };
        let mut worker = worker.stdout(Stdio::piped()).spawn().expect("a worker starts");
        assert_eq!(first_line(&mut worker), "ready");
        workers.push(worker);
    }
    // All of them begin when the file is there.
    fs::write(project.path("zero"), "0\n").unwrap();
    fs::rename(project.path("zero"), &counter).unwrap();
    for mut worker in workers {
        assert!(worker.wait().expect("it was started").success());
    }
    assert_eq!(fs::read_to_string(&counter).unwrap(), format!("{}\n", 4 * TIMES));

    let turns = fs::read_to_string(project.path("counter.turns")).unwrap();
    let turns: Vec<&str> = turns.lines().collect();
    assert_eq!(turns.len(), 4 * TIMES);
    let handed_over = turns.windows(2).filter(|pair| pair[0] != pair[1]).count();
    println!("{handed_over} times the lock went from one kind to the other");
    assert!(handed_over > 1, "they were at work at the same time");
}
