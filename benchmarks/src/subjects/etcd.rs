//! etcd's own lock, with one lease for the process, which all locks share.

use etcd_client::{Client, LockOptions};

use super::Subject;
use crate::spec::{Failure, Spec};

pub(crate) struct Etcd {
    client: Client,
    lease: i64,
}

impl Etcd {
    pub(crate) async fn new(spec: &Spec) -> Result<Self, Failure> {
        let mut client = Client::connect([&spec.url], None).await?;
        let lease = client.lease_grant(600, None).await?.id();
        Ok(Self { client, lease })
    }
}

impl Subject for Etcd {
    /// It always waits: etcd has no other form.
    async fn hold<R: Future<Output = ()> + Send>(
        &self,
        _task: usize,
        id: &str,
        _wait: bool,
        held: impl FnOnce() -> R + Send,
    ) -> Result<(), Failure> {
        let mut client = self.client.clone();
        let reply = client.lock(id, Some(LockOptions::new().with_lease(self.lease))).await?;
        held().await;
        client.unlock(reply.key()).await?;
        Ok(())
    }
}
