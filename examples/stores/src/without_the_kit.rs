//! The directory of `files` again, as a [`LockStore`] written by hand, on the rules of the contract.
//!
//! While the directory is locked no other process writes, as in a transaction that has locked a row. So reading, deciding and writing
//! are one step: nothing has to be compared when it is written, and no race is lost. On a database with transactions, write
//! it like this, with `SELECT … FOR UPDATE NOWAIT` in place of the lock.

use std::time::Duration;

use db_mutex_core::StoreError;
use db_mutex_core::store::cas::{Stored, machine_clock};
use db_mutex_core::store::rules::{self, Outcome, Row};
use db_mutex_core::store::{
    DeleteRequest, Deleted, InsertRequest, Inserted, ListFilter, LockId, LockRow, LockStore, RenewRequest, Renewed,
    StoreTime, async_trait,
};

use crate::files::{Files, in_the_background, lock, read, read_all, write};
use crate::names::name;

#[derive(Debug, Clone)]
pub struct Directory(pub Files);

impl Directory {
    /// Applies a rule to the row of an id.
    async fn apply<A: Send + 'static>(
        &self,
        id: &LockId,
        rule: impl FnOnce(Option<&Row>, StoreTime) -> Outcome<A> + Send + 'static,
    ) -> Result<A, StoreError> {
        let (directory, id) = (self.0.0.clone(), id.clone());
        in_the_background(move || {
            // If another process is at it, the request fails as `Busy`, and the mutex repeats it.
            let _locked = lock(&directory)?;
            let file = directory.join(name(&id));
            let stored = read(&file)?.map(|value| Stored::from_bytes(&value)).transpose()?;
            // The clock is read while the row is locked.
            let outcome = rule(stored.map(|stored| stored.row).as_ref(), machine_clock());
            if let Some(row) = outcome.write {
                // A value that could not be written has changed nothing, unless the error says otherwise.
                write(&directory, &file, Some(&Stored::new(id, row).to_bytes()?))?;
            }
            Ok(outcome.answer)
        })
        .await
    }
}

#[async_trait]
impl LockStore for Directory {
    async fn insert_if_absent(&self, request: &InsertRequest) -> Result<Inserted, StoreError> {
        let rule = request.clone();
        self.apply(&request.lock_id, move |row, now| rules::insert_and_end_excess(row, &rule, now)).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<Deleted, StoreError> {
        let rule = request.clone();
        self.apply(&request.lock_id, move |row, now| rules::delete(row, &rule, now)).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewed, StoreError> {
        let rule = request.clone();
        self.apply(&request.lock_id, move |row, now| rules::renew(row, &rule, now)).await
    }

    async fn purge_expired(&self, older_than: Duration) -> Result<u64, StoreError> {
        let directory = self.0.0.clone();
        in_the_background(move || {
            let mut removed = 0;
            for value in read_all(&directory)? {
                // Locked for each, so that a large purge does not keep others waiting; and read again, since it may be taken by now.
                let _locked = lock(&directory)?;
                let file = directory.join(name(&Stored::from_bytes(&value)?.lock_id));
                let Some(value) = read(&file)? else { continue };
                if rules::is_purgeable(&Stored::from_bytes(&value)?.row, older_than, machine_clock()) {
                    write(&directory, &file, None)?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }

    async fn find(&self, id: &LockId) -> Result<Option<LockRow>, StoreError> {
        let file = self.0.0.join(name(id));
        // Without a lock: a file is replaced as a whole.
        let stored =
            in_the_background(move || read(&file)?.map(|value| Stored::from_bytes(&value)).transpose()).await?;
        Ok(stored.map(|stored| stored.row.read(stored.lock_id, machine_clock())))
    }

    async fn list(&self, filter: &ListFilter) -> Result<Vec<LockRow>, StoreError> {
        let directory = self.0.0.clone();
        let values = in_the_background(move || read_all(&directory)).await?;
        let mut rows = Vec::new();
        for value in values {
            let Stored { lock_id, row, .. } = Stored::from_bytes(&value)?;
            rows.push(row.read(lock_id, machine_clock()));
        }
        rows.retain(|row| filter.include_free || row.is_taken());
        rows.sort_by(|one, other| one.lock_id.cmp(&other.lock_id));
        Ok(rows)
    }
}
