-- Query 12, time windows: how many bids does each bidder make in each 10 seconds?
--
-- By the time of the bid: there is no processing time, as the same input always gives the same answer.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q12 AS
SELECT
    bidder,
    date_bin('10 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') AS starttime,
    count(*) AS bid_count
FROM nexmark.bid
GROUP BY bidder, date_bin('10 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00');

CREATE MATERIALIZED VIEW q12_sums AS
SELECT starttime, count(*) AS rows, sum(bidder) AS bidder, sum(bid_count) AS bid_count
FROM q12
GROUP BY starttime;
