-- Query 17, auction statistics: how many bids does each auction get a day, and of what price?

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q17 AS
SELECT
    auction,
    CAST(date_time AS date) AS day,
    count(*) AS total_bids,
    count(*) FILTER (WHERE price < 10000) AS rank1_bids,
    count(*) FILTER (WHERE price >= 10000 AND price < 1000000) AS rank2_bids,
    count(*) FILTER (WHERE price >= 1000000) AS rank3_bids,
    min(price) AS min_price,
    max(price) AS max_price,
    avg(price) AS avg_price,
    sum(price) AS sum_price
FROM nexmark.bid
GROUP BY auction, CAST(date_time AS date);

CREATE MATERIALIZED VIEW q17_sums AS
SELECT
    day,
    count(*) AS rows,
    sum(auction) AS auction,
    sum(total_bids) AS total_bids,
    sum(rank1_bids) AS rank1_bids,
    sum(rank2_bids) AS rank2_bids,
    sum(rank3_bids) AS rank3_bids,
    sum(min_price) AS min_price,
    sum(max_price) AS max_price,
    sum(avg_price) AS avg_price,
    sum(sum_price) AS sum_price
FROM q17
GROUP BY day;
