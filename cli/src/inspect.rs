use db_mutex::LockId;
use db_mutex::admin::{ListFilter, LockRow, LockState};
use serde_json::{Value, json};

use crate::args::{Cli, ListArgs, MigrateArgs, PurgeArgs, ReleaseArgs, ShowArgs};
use crate::database::{Connected, Purpose, connect};
use crate::exit::{Failure, NOTHING, USAGE};
use crate::place::Place;
use crate::print;
use crate::watch;

/// `db-mutex list`
pub(crate) async fn list(cli: &Cli, args: &ListArgs) -> Result<u8, Failure> {
    let filter = if args.all { ListFilter::all() } else { ListFilter::taken() };
    let connected = connect(cli, Purpose::Look).await?;
    if args.watch {
        return watch::watch(&connected.mutex, &filter, args.json).await;
    }
    let rows = connected.mutex.list(&filter).await?;
    if args.json {
        print::line(&format!("{:#}", Value::from(rows.iter().map(print::to_json).collect::<Vec<_>>())))?;
    } else if rows.is_empty() {
        print::note(no_locks(args.all));
    } else {
        print::line(&print::table(&rows))?;
    }
    Ok(0)
}

/// What an empty list means.
pub(crate) fn no_locks(all: bool) -> &'static str {
    if all { "no lock is known" } else { "no lock is held" }
}

/// `db-mutex show`
pub(crate) async fn show(cli: &Cli, args: &ShowArgs) -> Result<u8, Failure> {
    LockId::new(&args.name)?;
    let Connected { mutex, place, .. } = connect(cli, Purpose::Look).await?;
    match mutex.find(&args.name).await? {
        Some(row) if args.json => print::line(&format!("{:#}", print::to_json(&row)))?,
        Some(row) => print::line(&print::facts(&row))?,
        None => {
            if args.json {
                print::line("null")?;
            }
            return Err(Failure::new(NOTHING, unknown(&args.name, &place)));
        }
    }
    Ok(0)
}

fn unknown(name: &str, place: &Place) -> String {
    format!("lock `{name}` is not known in {}: never acquired there, or purged since", place.shown())
}

/// `db-mutex release --force`
pub(crate) async fn release(cli: &Cli, args: &ReleaseArgs) -> Result<u8, Failure> {
    if !args.force {
        let message = "release takes a lock away from its holder, which may still be running; add --force to do so";
        return Err(Failure::new(USAGE, message));
    }
    LockId::new(&args.name)?;
    let Connected { mutex, place, .. } = connect(cli, Purpose::Change).await?;
    let row = mutex.find(&args.name).await?;
    let released = mutex.force_release(&args.name).await?;
    match (&row, released) {
        (Some(row), true) if args.json => print::line(&format!("{:#}", released_json(row)))?,
        (Some(row), true) if row.state() == LockState::Held => {
            print::line(&format!(
                "lock `{}` was released; it was held by {}, and {}",
                args.name,
                row.holder,
                print::notices(row)
            ))?;
        }
        (Some(row), true) => {
            print::line(&format!("lock `{}` was released; it was resting after {}", args.name, row.holder))?;
        }
        (_, _) if args.json => {
            print::line(&format!("{:#}", json!({ "lock_id": args.name, "released": released })))?;
        }
        _ => {}
    }
    match (row, released) {
        (_, true) => Ok(0),
        (Some(_), false) => {
            Err(Failure::new(NOTHING, format!("lock `{}` is free; there was nothing to release", args.name)))
        }
        (None, false) => Err(Failure::new(NOTHING, unknown(&args.name, &place))),
    }
}

/// From whom a lock was taken, and by when that one notices: `notices_within_ms` if it renews, `ends_in_ms` in any case;
/// `null` for a lock that never expires.
fn released_json(row: &LockRow) -> Value {
    let held = row.state() == LockState::Held;
    json!({
        "lock_id": row.lock_id.as_str(),
        "released": true,
        "holder": row.holder.as_str(),
        "fence": row.fence.get(),
        "was": row.state().as_str(),
        "notices_within_ms": row.ttl.filter(|_| held).map(|ttl| print::millis(ttl / 3)),
        "ends_in_ms": row.expires_in().map(print::millis),
    })
}

/// `db-mutex purge`
pub(crate) async fn purge(cli: &Cli, args: &PurgeArgs) -> Result<u8, Failure> {
    let purged = connect(cli, Purpose::Change).await?.mutex.purge_expired(args.older_than).await?;
    print::line(&format!("{purged} row{} removed", if purged == 1 { "" } else { "s" }))?;
    Ok(0)
}

/// `db-mutex migrate`
pub(crate) async fn migrate(cli: &Cli, args: &MigrateArgs) -> Result<u8, Failure> {
    if args.print {
        print::line(Place::of(cli)?.connector.schema_sql().trim_end())?;
    } else {
        connect(cli, Purpose::Lock).await?;
    }
    Ok(0)
}
