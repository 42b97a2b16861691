use db_mutex::admin::ListFilter;
use serde_json::{Value, json};

use crate::args::{Cli, ListArgs, MigrateArgs, PurgeArgs, ReleaseArgs, ShowArgs};
use crate::database::{Purpose, connector, mutex};
use crate::exit::{Failure, NOTHING, USAGE};
use crate::print;

/// `db-mutex list`
pub(crate) async fn list(cli: &Cli, args: &ListArgs) -> Result<u8, Failure> {
    let filter = if args.all { ListFilter::all() } else { ListFilter::taken() };
    let rows = mutex(cli, Purpose::Look).await?.list(&filter).await?;
    if args.json {
        print::line(&format!("{:#}", Value::from(rows.iter().map(print::to_json).collect::<Vec<_>>())))?;
    } else if rows.is_empty() {
        print::note(&format!("no lock is {}", if args.all { "known" } else { "taken" }));
    } else {
        print::line(&print::table(&rows))?;
    }
    Ok(0)
}

/// `db-mutex show`
pub(crate) async fn show(cli: &Cli, args: &ShowArgs) -> Result<u8, Failure> {
    db_mutex::LockId::new(&args.name)?;
    let row = mutex(cli, Purpose::Look).await?.find(&args.name).await?;
    match row {
        Some(row) if args.json => print::line(&format!("{:#}", print::to_json(&row)))?,
        Some(row) => print::line(&print::facts(&row))?,
        None => {
            if args.json {
                print::line("null")?;
            }
            let message = format!("lock `{}` is not known here: never acquired, or purged since", args.name);
            return Err(Failure::new(NOTHING, message));
        }
    }
    Ok(0)
}

/// `db-mutex release --force`
pub(crate) async fn release(cli: &Cli, args: &ReleaseArgs) -> Result<u8, Failure> {
    if !args.force {
        let message = "release takes a lock away from whoever holds it, who may still be at work; add --force to do so";
        return Err(Failure::new(USAGE, message));
    }
    db_mutex::LockId::new(&args.name)?;
    let released = mutex(cli, Purpose::Look).await?.force_release(&args.name).await?;
    if args.json {
        print::line(&format!("{:#}", json!({ "lock_id": args.name, "released": released })))?;
    }
    match released {
        true => Ok(0),
        false => Err(Failure::new(NOTHING, format!("lock `{}` is free; there was nothing to release", args.name))),
    }
}

/// `db-mutex purge`
pub(crate) async fn purge(cli: &Cli, args: &PurgeArgs) -> Result<u8, Failure> {
    let purged = mutex(cli, Purpose::Look).await?.purge_expired(args.older_than).await?;
    print::line(&format!("{purged} row{} removed", if purged == 1 { "" } else { "s" }))?;
    Ok(0)
}

/// `db-mutex migrate`
pub(crate) async fn migrate(cli: &Cli, args: &MigrateArgs) -> Result<u8, Failure> {
    if args.print {
        print::line(connector(cli, Purpose::Lock)?.schema_sql().trim_end())?;
    } else {
        mutex(cli, Purpose::Lock).await?;
    }
    Ok(0)
}
