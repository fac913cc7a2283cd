-- Query 10, log to file system: every bid with the day and the minute that it is filed under.
--
-- There are no files to write: it is filed by counting.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q10 AS
SELECT
    auction, bidder, price, date_time, extra,
    CAST(date_time AS date) AS day,
    date_trunc('minute', date_time) AS minute
FROM nexmark.bid;

CREATE MATERIALIZED VIEW q10_sums AS
SELECT
    day,
    minute,
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    max(date_time) AS date_time,
    sum(length(extra)) AS extra
FROM q10
GROUP BY day, minute;
