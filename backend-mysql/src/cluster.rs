//! Several servers that all accept writes.

/// How the servers that accept writes agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cluster {
    /// One server accepts writes.
    One,
    /// All nodes do. They agree when a transaction commits: the one that comes second in the order of the cluster fails if
    /// both have written the same row. Row locks are known to the node alone.
    Galera {
        /// Whether it has `INSERT … RETURNING`, which verifying needs.
        returns_rows: bool,
    },
}

impl Cluster {
    pub(crate) fn is_galera(self) -> bool {
        matches!(self, Self::Galera { .. })
    }
}
