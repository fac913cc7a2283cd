-- Query 7, highest bid: the highest bids of each 10 seconds.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW highest AS
SELECT
    date_bin('10 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') + INTERVAL '10 seconds' AS date_time,
    max(price) AS price
FROM nexmark.bid
GROUP BY date_bin('10 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') + INTERVAL '10 seconds';

CREATE MATERIALIZED VIEW q7 AS
SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM nexmark.bid b
JOIN highest h ON b.price = h.price
WHERE b.date_time BETWEEN h.date_time - INTERVAL '10 seconds' AND h.date_time;
