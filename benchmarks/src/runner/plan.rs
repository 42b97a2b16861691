//! What is measured, in which order.

use crate::options::Options;
use crate::results::Cell;
use crate::spec::{Ids, Work};

/// A cell, and how it is measured.
pub(crate) struct Planned {
    pub(crate) cell: Cell,
    pub(crate) work: Work,
    /// In how many rounds at most. What takes long and varies little is not in all.
    pub(crate) rounds: usize,
    /// Cells of one group are measured at the same time: they mostly wait.
    pub(crate) together: bool,
}

/// The table with many rows, which is filled once.
pub(crate) const MILLION: &str = "bench_million";

const EVERY: usize = usize::MAX;
pub(crate) const OURS: [&str; 4] = ["postgres", "mariadb", "mysql", "sqlite"];

/// Server and subject; how many tasks at most.
const SUBJECTS: [(&str, &str, usize); 19] = [
    ("postgres", "db-mutex", EVERY),
    ("postgres", "bare", EVERY),
    ("postgres", "update", EVERY),
    ("postgres", "advisory", EVERY),
    ("postgres", "distributed", EVERY),
    // Each of its tasks is a thread with a connection of its own.
    ("postgres", "django", 32),
    ("mariadb", "db-mutex", EVERY),
    ("mariadb", "bare", EVERY),
    ("mariadb", "update", EVERY),
    ("mariadb", "distributed", EVERY),
    ("mysql", "db-mutex", EVERY),
    ("mysql", "bare", EVERY),
    ("mysql", "update", EVERY),
    ("mysql", "distributed", EVERY),
    ("sqlite", "db-mutex", EVERY),
    // One connection in the calling thread: more tasks would only wait for each other.
    ("sqlite", "bare", 1),
    ("redis-memory", "rslock", EVERY),
    ("redis", "rslock", EVERY),
    ("etcd-alone", "etcd", EVERY),
];

pub(crate) fn plan(options: &Options) -> Vec<Planned> {
    let mut plan = Plan { all: Vec::new() };
    let millis = (options.seconds * 1000.0) as u64;
    let load = |ids| Work::Load { ids, millis };
    let tasks: &[usize] = if options.quick { &[1, 32, 1024] } else { &[1, 8, 32, 256, 1024] };
    for &tasks in tasks {
        for (server, subject, most) in SUBJECTS {
            if tasks <= most {
                plan.add("fresh", server, subject, tasks, 1, load(Ids::Fresh));
            }
        }
        for server in OURS {
            if [1, 32, 1024].contains(&tasks) {
                plan.add("reused", server, "db-mutex", tasks, 1, load(Ids::Reused));
            }
        }
    }
    for server in OURS {
        if server != "sqlite" {
            plan.add("parts", server, "trip", 1, 1, load(Ids::Fresh));
        }
        plan.add("parts", server, "uncommitted", 1, 1, load(Ids::Fresh));
    }
    for server in OURS {
        for tasks in [1, 32] {
            plan.add("million", server, "db-mutex", tasks, 1, load(Ids::Fresh));
        }
    }
    // Few tasks a process, because the peers need a connection for each.
    for processes in [2, 4, 8] {
        if options.quick && processes < 8 {
            continue;
        }
        for server in OURS {
            plan.add("fresh", server, "db-mutex", 8, processes, load(Ids::Fresh));
        }
        plan.add("fresh", "postgres", "advisory", 8, processes, load(Ids::Fresh));
        plan.add("fresh", "postgres", "distributed", 8, processes, load(Ids::Fresh));
        plan.add("fresh", "postgres", "django", 8, processes, load(Ids::Fresh));
        plan.add("fresh", "redis-memory", "rslock", 8, processes, load(Ids::Fresh));
    }
    for server in OURS {
        plan.add("fresh", server, "db-mutex", 128, 8, load(Ids::Fresh));
    }
    plan.add("fresh", "redis-memory", "rslock", 128, 8, load(Ids::Fresh));

    let turns = Work::HandOver { turns: if options.quick { 5 } else { 10 } };
    for server in OURS {
        plan.add("hand-over", server, "db-mutex", 2, 1, turns);
    }
    plan.add("hand-over", "postgres", "advisory", 2, 1, turns);
    // Not etcd: there a lock is its lease's, and the tasks of a process share one.
    for (server, subject) in
        [("postgres", "db-mutex"), ("postgres", "advisory"), ("redis-memory", "rslock"), ("etcd-alone", "etcd")]
    {
        plan.add("hand-over", server, subject, 1, 2, turns);
    }
    // These ask from time to time.
    for server in ["mariadb", "sqlite"] {
        plan.add("hand-over", server, "db-mutex", 1, 2, turns);
        plan.last().rounds = 3;
    }

    for server in OURS {
        // Long enough for what the servers write each second.
        plan.add("refused", server, "db-mutex", 1, 1, Work::Refused { millis: 4 * millis });
        plan.last().rounds = 3;
    }
    for server in OURS {
        let (ttl_millis, millis) = if options.quick { (9_000, 12_000) } else { (30_000, 60_000) };
        plan.add("leases", server, "db-mutex", 1, 1, Work::Leases { count: options.many, ttl_millis, millis });
        (plan.last().rounds, plan.last().together) = (1, true);
    }
    for server in OURS {
        for (kind, one_id) in [("waiters, one id", true), ("waiters, many ids", false)] {
            if options.quick && ["mariadb", "mysql"].contains(&server) {
                continue;
            }
            plan.add(kind, server, "db-mutex", 1, 1, Work::Waiters { count: options.many, one_id, millis: 8_000 });
            plan.last().rounds = 1;
        }
    }
    plan.all.retain(|planned| options.wants(&name(&planned.cell)));
    plan.all
}

struct Plan {
    all: Vec<Planned>,
}

impl Plan {
    fn add(&mut self, kind: &str, server: &str, subject: &str, tasks: usize, processes: usize, work: Work) {
        let cell = Cell {
            kind: kind.into(),
            server: server.into(),
            subject: subject.into(),
            tasks,
            processes,
            rounds: Vec::new(),
            failures: Vec::new(),
        };
        self.all.push(Planned { cell, work, rounds: EVERY, together: false });
    }

    fn last(&mut self) -> &mut Planned {
        self.all.last_mut().expect("a cell was just added")
    }
}

/// What `--only` looks at, and what is printed.
pub(crate) fn name(cell: &Cell) -> String {
    let Cell { kind, server, subject, tasks, processes, .. } = cell;
    match processes {
        1 => format!("{kind} {server}/{subject} {tasks}"),
        _ => format!("{kind} {server}/{subject} {processes}x{tasks}"),
    }
}
