//! Writes each snippet into a function of its own.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

const ARGUMENTS: &str = "guard: db_mutex::Guard, pool: sqlx::Pool";

fn main() -> Result<(), Box<dyn Error>> {
    let sqlite = snippet("../../backend-sqlite/src/verify.rs", "```ignore")?;
    let postgres = snippet("../../backend-postgres/src/verify.rs", "```ignore")?;
    // sqlx for MySQL is not built for this.
    if snippet("../../backend-mysql/src/verify.rs", "```ignore")? != postgres {
        return Err("the snippets of verify_with for MySQL and PostgreSQL differ".into());
    }
    let readme = snippet("../verify-with-sqlx/README.md", "```rust")?;
    let readme = format!("let mut transaction = pool.begin().await?;\n{readme}");
    let functions = [
        function("sqlite", "db_mutex::sqlite::SqliteStore", "sqlx::Sqlite", &sqlite),
        function("postgres", "db_mutex::postgres::PostgresStore", "sqlx::Postgres", &postgres),
        function("readme", "db_mutex::postgres::PostgresStore", "sqlx::Postgres", &readme),
    ];
    fs::write(Path::new(&env::var("OUT_DIR")?).join("snippets.rs"), functions.concat())?;
    Ok(())
}

fn function(name: &str, store: &str, database: &str, snippet: &str) -> String {
    format!(
        "pub async fn {name}(store: &{store}, {ARGUMENTS}<{database}>) -> Result<(), Box<dyn std::error::Error>> {{
            {snippet}
            Ok(())
        }}\n"
    )
}

/// The only code in a file that begins with `fence`, without the slashes of doc comments.
fn snippet(file: &str, fence: &str) -> Result<String, Box<dyn Error>> {
    println!("cargo::rerun-if-changed={file}");
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines().map(|line| line.trim_start().trim_start_matches("/// "));
    lines.find(|line| *line == fence).ok_or_else(|| format!("{file} has no {fence}"))?;
    let code: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
    if code.is_empty() || lines.any(|line| line == fence) {
        return Err(format!("{file} does not have exactly one {fence}").into());
    }
    Ok(code.join("\n"))
}
