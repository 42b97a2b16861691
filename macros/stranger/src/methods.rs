//! Methods, also those of traits.

use async_trait::async_trait;
use db_mutex::{db_mutex, DbMutex, Error};

/// Has a mutex.
#[derive(Debug, Clone)]
pub struct App {
    mutex: DbMutex,
    name: String,
    count: u32,
}

impl App {
    /// Borrows.
    ///
    /// # Errors
    /// Those of the lock.
    #[db_mutex("app-{self.name}", store = self.mutex)]
    pub async fn by_reference(&self) -> Result<&str, Error> {
        Ok(&self.name)
    }

    /// Borrows mutably.
    ///
    /// # Errors
    /// Those of the lock.
    #[db_mutex("app-{self.name}-{by}", store = &self.mutex)]
    pub async fn by_mutable_reference(&mut self, by: u32) -> Result<u32, Error> {
        self.count += by;
        Ok(self.count)
    }

    /// Takes itself.
    ///
    /// # Errors
    /// Those of the lock.
    #[db_mutex("app-{self.name}", store = self.mutex)]
    pub async fn by_value(mut self) -> Result<Self, Error> {
        self.count += 1;
        Ok(self)
    }

    /// Is private to the crate.
    #[db_mutex("app", store = self.mutex, on_held = "skip")]
    pub(crate) async fn quietly(&self) {
        drop(self.name.clone());
    }
}

/// A trait of async-trait.
#[async_trait]
pub trait Worker {
    /// Works.
    async fn work(&self, id: u32) -> Result<String, Error>;

    /// Changes.
    async fn change(&mut self, pair: (u32, u32)) -> Result<u32, Error>;

    /// Returns nothing.
    async fn quietly(&self);

    /// Returns its mutex.
    fn mutex(&self) -> &DbMutex;

    /// Is provided.
    #[db_mutex("provided", store = self.mutex())]
    async fn provided(&self) -> Result<u8, Error>
    where
        Self: Sync,
    {
        Ok(3)
    }
}

#[async_trait]
impl Worker for App {
    #[db_mutex("work-{self.name}-{id}", store = self.mutex)]
    #[tracing::instrument(skip(self))]
    async fn work(&self, id: u32) -> Result<String, Error> {
        if id == 0 {
            return Ok("early".into());
        }
        Ok(self.name.clone())
    }

    #[tracing::instrument(skip(self))]
    #[db_mutex("change", store = self.mutex, guard)]
    async fn change(&mut self, (first, second): (u32, u32)) -> Result<u32, Error> {
        guard.extend(std::time::Duration::from_secs(9)).await?;
        self.count += first + second;
        Ok(self.count)
    }

    #[db_mutex("quietly-{self.name}", store = self.mutex, on_held = "skip")]
    async fn quietly(&self) {
        Self::quietly(self).await;
    }

    fn mutex(&self) -> &DbMutex {
        &self.mutex
    }
}

/// A trait of the language's own.
pub trait Plain {
    /// Works.
    fn plain(&self) -> impl std::future::Future<Output = Result<u8, Error>> + Send;
}

impl Plain for App {
    #[db_mutex("plain", store = self.mutex)]
    async fn plain(&self) -> Result<u8, Error> {
        Ok(1)
    }
}
