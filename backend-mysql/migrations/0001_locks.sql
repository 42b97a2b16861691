CREATE TABLE IF NOT EXISTS `{table}` (
    lock_id     VARBINARY(1024) NOT NULL,  -- UTF-8, compared byte by byte
    owner       BINARY(16),
    released_by BINARY(16),                -- the owner token that was released last
    fence       BIGINT          NOT NULL,
    holder      VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    acquired_at BIGINT          NOT NULL,  -- microseconds since 1970, UTC
    released_at BIGINT,
    expires_at  BIGINT          NOT NULL,  -- 9223372036854775807: never
    ttl         BIGINT          NOT NULL,  -- the longest that the acquisition asked for, in microseconds; likewise
    PRIMARY KEY (lock_id),
    UNIQUE KEY by_owner (lock_id, owner)   -- what verifying in a transaction locks, and a takeover has to change
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC
