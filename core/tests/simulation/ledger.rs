use std::collections::HashMap;

use db_mutex_core::OwnerToken;
use db_mutex_core::store::{Lease, Renewed, StoreTime};

/// The store's own log: who was granted what, until when, by the store's clock.
#[derive(Debug, Default)]
pub(crate) struct Ledger(HashMap<String, Page>);

#[derive(Debug)]
struct Page {
    owner: Option<OwnerToken>,
    fence: i64,
    expires_at: StoreTime,
    /// The owner that was released last, while there is a row.
    released_by: Option<OwnerToken>,
    /// The latest token whose lease was ended by force.
    forced: i64,
}

impl Ledger {
    /// Notes a grant, or answers what was wrong with it.
    pub(crate) fn granted(&mut self, id: &str, owner: OwnerToken, lease: Lease, now: StoreTime) -> Result<(), String> {
        let fence = lease.fence.get();
        let Some(page) = self.0.get_mut(id) else {
            let page = Page { owner: Some(owner), fence, expires_at: lease.expires_at, released_by: None, forced: 0 };
            self.0.insert(id.to_owned(), page);
            return Ok(());
        };
        let own = page.owner == Some(owner);
        if !own && page.owner.is_some() && page.expires_at > now {
            return Err(format!("G1: lock `{id}` was granted while another owner's lease lasts"));
        }
        // An own lease that has ended is given back, or granted anew where its row was purged.
        let same = own && fence == page.fence;
        if !same && (fence <= page.fence || own && page.expires_at > now) {
            return Err(format!("fence of `{id}` went from {} to {fence} (own lease: {own})", page.fence));
        }
        (page.owner, page.fence, page.expires_at) = (Some(owner), fence, lease.expires_at);
        Ok(())
    }

    pub(crate) fn renewed(
        &mut self,
        id: &str,
        owner: OwnerToken,
        answer: &Renewed,
        now: StoreTime,
    ) -> Result<(), String> {
        let Renewed::Renewed(lease) = answer else { return Ok(()) };
        match self.0.get_mut(id) {
            Some(page) if page.owner == Some(owner) && page.expires_at > now => {
                page.expires_at = lease.expires_at;
                Ok(())
            }
            _ => Err(format!("lock `{id}` was renewed by one who did not have it")),
        }
    }

    pub(crate) fn released(&mut self, id: &str) {
        if let Some(page) = self.0.get_mut(id) {
            page.released_by = page.owner.take();
        }
    }

    /// Notes that the rows of free locks may be gone, and what they recorded.
    pub(crate) fn purged(&mut self, now: StoreTime) {
        for page in self.0.values_mut().filter(|page| page.owner.is_none() || page.expires_at <= now) {
            page.released_by = None;
        }
    }

    /// Whether an insert by this owner grants nothing.
    pub(crate) fn refuses(&self, id: &str, owner: OwnerToken, now: StoreTime) -> bool {
        self.0.get(id).is_some_and(|page| {
            page.released_by == Some(owner) || page.owner.is_some_and(|other| other != owner) && page.expires_at > now
        })
    }

    /// Who has the lock.
    pub(crate) fn owner(&self, id: &str, now: StoreTime) -> Option<OwnerToken> {
        self.0.get(id).filter(|page| page.expires_at > now)?.owner
    }

    pub(crate) fn forced(&mut self, id: &str) {
        if let Some(page) = self.0.get_mut(id) {
            page.released_by = page.owner.take().or(page.released_by);
            page.forced = page.fence;
        }
    }

    /// Whether the acquisition with this token was ended by force.
    pub(crate) fn was_forced(&self, id: &str, fence: i64) -> bool {
        self.0.get(id).is_some_and(|page| page.forced >= fence)
    }

    pub(crate) fn holds(&self, id: &str, owner: OwnerToken, now: StoreTime) -> bool {
        self.0.get(id).is_some_and(|page| page.owner == Some(owner) && page.expires_at > now)
    }
}
