//! How many instructions operations take in this process, by callgrind: `scripts/bench-instructions`.
//!
//! They do not depend on how busy the machine is, so they have limits, and the benchmark fails if one is passed. A limit is what
//! was counted and a tenth more; raise one in the commit that needs it, and say there why.

use std::hint::black_box;

use db_mutex_in_process::{Memory, pairs, refusals, side_by_side};
use iai_callgrind::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    LibraryBenchmarkConfig::default().tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions)])).clone()
}

#[library_benchmark(setup = Memory::warm, config = at_most(1_420_000))]
#[bench::a_hundred()]
fn acquire_and_release(memory: Memory) -> Memory {
    let lock = memory.mutex.lock("pair");
    memory.runtime.block_on(pairs(black_box(&lock), 100));
    memory
}

fn held() -> Memory {
    let memory = Memory::warm();
    // Not released: the lock stays held for its TTL.
    std::mem::forget(memory.runtime.block_on(memory.mutex.lock("held").acquire()).expect("free"));
    memory
}

#[library_benchmark(setup = held, config = at_most(690_000))]
#[bench::a_hundred()]
fn refused(memory: Memory) -> Memory {
    let lock = memory.mutex.lock("held");
    memory.runtime.block_on(refusals(black_box(&lock), 100));
    memory
}

#[library_benchmark(setup = Memory::warm, config = at_most(5_200_000))]
#[bench::ten_pairs_in_32_tasks()]
fn many(memory: Memory) -> Memory {
    memory.runtime.block_on(side_by_side(black_box(&memory.mutex), 32, 10));
    memory
}

library_benchmark_group!(name = operations; benchmarks = acquire_and_release, refused, many);
main!(library_benchmark_groups = operations);
