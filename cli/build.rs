//! Says in one sentence what the command needs, and has it linked so that it starts soon.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DB_MUTEX_PIE");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") != "linux" {
        println!(
            "cargo::error=the command db-mutex runs on Linux only: it relies on signalfd(2), prctl(2) and /proc; \
             build it for a Linux target, or use the library db-mutex, which runs elsewhere too"
        );
    }
    // A position-independent executable has 23,000 addresses to be adjusted at each start, in 107 pages, and a run starts it
    // twice. At a fixed address there are none. The addresses of heap, stacks and shared libraries are random all the same.
    let is_static = target("FEATURE").split(',').any(|feature| feature == "crt-static");
    if target("OS") == "linux" && target("ENV") == "gnu" && !is_static && env::var_os("DB_MUTEX_PIE").is_none() {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
