//! How long operations take in this process, by criterion: `cargo bench --bench time`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use db_mutex_in_process::{Memory, pairs, refusals, side_by_side};

fn operations(criterion: &mut Criterion) {
    let memory = Memory::warm();
    let mut group = criterion.benchmark_group("memory");
    let lock = memory.mutex.lock("pair");
    group.bench_function("acquire and release", |bencher| {
        bencher.to_async(&memory.runtime).iter(|| pairs(&lock, 1));
    });
    let closure = memory.mutex.lock("closure");
    group.bench_function("run a closure", |bencher| {
        bencher.to_async(&memory.runtime).iter(|| async { closure.run(async |_guard| ()).await.expect("free") });
    });
    let held = memory.mutex.lock("held");
    let _guard = memory.runtime.block_on(held.acquire()).expect("free");
    group.bench_function("refused", |bencher| {
        bencher.to_async(&memory.runtime).iter(|| refusals(&held, 1));
    });
    for tasks in [32, 1024] {
        group.throughput(Throughput::Elements(tasks as u64 * 10));
        group.bench_function(format!("{tasks} tasks, 10 pairs each"), |bencher| {
            bencher.to_async(&memory.runtime).iter(|| side_by_side(&memory.mutex, tasks, 10));
        });
    }
}

criterion_group!(benches, operations);
criterion_main!(benches);
