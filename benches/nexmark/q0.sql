-- Query 0, pass through: every bid as it is.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q0 AS
SELECT auction, bidder, price, date_time, extra
FROM nexmark.bid;

CREATE MATERIALIZED VIEW q0_sums AS
SELECT
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    max(date_time) AS date_time,
    sum(length(extra)) AS extra
FROM q0;
