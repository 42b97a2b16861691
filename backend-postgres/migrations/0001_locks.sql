-- A renewal changes no indexed column and finds room in its page: the table stays as small as its locks are many.
CREATE TABLE {table} (
    lock_id      pg_catalog.text COLLATE pg_catalog."C" NOT NULL PRIMARY KEY, -- compared byte by byte
    owner        pg_catalog.bytea CHECK (pg_catalog.octet_length(owner) = 16), -- NULL: released
    released_by  pg_catalog.bytea CHECK (pg_catalog.octet_length(released_by) = 16), -- the owner that was released last
    fence        bigint NOT NULL CHECK (fence > 0),
    holder       pg_catalog.text NOT NULL,
    acquired_at  bigint NOT NULL,                              -- microseconds since 1970, UTC
    released_at  bigint,
    expires_at   bigint NOT NULL,                              -- 9223372036854775807: never; 0: released
    ttl          bigint NOT NULL,                              -- the longest that this acquisition has asked for
    wanted_until bigint                                        -- until then a release notifies; NULL: no one waits
) WITH (fillfactor = 50)
