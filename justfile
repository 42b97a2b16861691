# The index of the scripts: `just` lists them. Each is a script that can be run without just.

# list the recipes
default:
    @just --list

# everything that has to be green before a merge; starts its own servers
test:
    scripts/test

# what needs no server: core, the suite on the memory store, SQLite, the attribute, the documents
test-local:
    cargo test -p db-mutex-core --features blocking,metrics
    cargo test -p db-mutex-conformance -p db-mutex-sqlite -p db-mutex-macros
    cargo test -p db-mutex --features macros,tower --test predecessor --test tower --test public_names --test docs

# longer forms of the same tests; an hour and a half
test-long:
    scripts/test-long

# the programs in examples/, and what they print
test-examples *NAMES:
    scripts/test-examples {{ NAMES }}

# the stores in examples/stores on their servers
test-stores:
    scripts/test-stores

# completions in bash, zsh and fish
test-completions:
    scripts/test-completions

# Rust beside processes of django-db-mutex
test-django:
    scripts/test-django

# the packages, in crates outside of this workspace
test-packages:
    scripts/test-packages

# the Debian package of the command; needs cargo-deb
deb:
    scripts/package-deb

# the command as one static file
static:
    scripts/build-static

# the licenses of what is compiled into the command
licenses:
    scripts/licenses

# the Debian package and the image, built and used in roots of their own; needs root
test-installing *PARTS:
    scripts/test-installing {{ PARTS }}

# beside sqlx, sea-orm, diesel and others in one dependency graph
test-beside-others:
    scripts/test-beside-others

# db-mutex beside its peers: `just bench --quick`, `just bench` for benchmarks/RESULTS.md
bench *ARGUMENTS:
    scripts/bench {{ ARGUMENTS }}

# the lowest and the highest rusqlite
test-rusqlite-versions:
    scripts/test-rusqlite-versions

# how many instructions core takes for an operation; fails above its limit
bench-instructions:
    scripts/bench-instructions

# servers for tests: `just databases up postgres mariadb`, `just databases down`
databases *ARGUMENTS:
    scripts/databases {{ ARGUMENTS }}

# format
fmt:
    cargo fmt --all

# lints
clippy:
    cargo clippy --workspace --locked --features db-mutex/all-backends,db-mutex/macros,db-mutex/blocking,db-mutex/tower,db-mutex/metrics --all-targets -- -D warnings

# licences, advisories and banned crates; needs cargo-deny
deny:
    cargo deny check

# dependencies that nothing uses; needs cargo-machete
machete:
    cargo machete --skip-target-dir

# each feature, and each pair of features, compiles; needs cargo-hack
hack:
    cargo hack check --workspace --locked --feature-powerset --depth 2 --exclude-features _rustls

# whether the public API breaks what REVISION had; needs cargo-semver-checks. After a release, compare with what was published.
semver REVISION="main":
    cargo semver-checks --workspace --baseline-rev {{ REVISION }}

# the documentation as docs.rs shows it; needs a nightly toolchain
doc:
    RUSTDOCFLAGS="--cfg docsrs" cargo +nightly doc --workspace --all-features --no-deps
