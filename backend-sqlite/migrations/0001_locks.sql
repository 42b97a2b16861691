CREATE TABLE "{table}" (
    lock_id     TEXT    NOT NULL PRIMARY KEY,                      -- compared byte by byte
    owner       BLOB    CHECK (owner IS NULL OR length(owner) = 16),
    released_by BLOB    CHECK (released_by IS NULL OR length(released_by) = 16), -- the owner that was released last
    fence       INTEGER NOT NULL CHECK (fence > 0),
    holder      TEXT    NOT NULL,
    acquired_at INTEGER NOT NULL,                                  -- microseconds since 1970, UTC
    released_at INTEGER,
    expires_at  INTEGER NOT NULL,                                  -- 9223372036854775807: never; 0: released
    ttl         INTEGER NOT NULL                                   -- the longest asked for, in microseconds
) STRICT, WITHOUT ROWID;
