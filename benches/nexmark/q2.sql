-- Query 2, selection: the bids for every 123rd auction.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q2 AS
SELECT auction, price
FROM nexmark.bid
WHERE auction % 123 = 0;

CREATE MATERIALIZED VIEW q2_sums AS
SELECT count(*) AS rows, sum(auction) AS auction, sum(price) AS price
FROM q2;
