-- Query 1, currency conversion: the price of each bid in euros.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q1 AS
SELECT auction, bidder, 0.908 * price AS price, date_time, extra
FROM nexmark.bid;

CREATE MATERIALIZED VIEW q1_sums AS
SELECT
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    max(date_time) AS date_time,
    sum(length(extra)) AS extra
FROM q1;
