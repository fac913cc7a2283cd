-- Query 14, calculation: bids of certain prices in euros, with the time of day and how many letters c they have.
--
-- The letters are counted with functions of SQL instead of one of our own.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q14 AS
SELECT
    auction,
    bidder,
    0.908 * price AS price,
    CASE
        WHEN extract(hour FROM date_time) >= 8 AND extract(hour FROM date_time) <= 18 THEN 'dayTime'
        WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime'
        ELSE 'otherTime'
    END AS bid_time_type,
    date_time,
    extra,
    length(extra) - length(replace(extra, 'c', '')) AS c_counts
FROM nexmark.bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;

CREATE MATERIALIZED VIEW q14_sums AS
SELECT
    bid_time_type,
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    max(date_time) AS date_time,
    sum(length(extra)) AS extra,
    sum(c_counts) AS c_counts
FROM q14
GROUP BY bid_time_type;
