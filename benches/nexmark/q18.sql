-- Query 18, last bid: the last bid of each bidder for each auction.
--
-- With price and letters to decide between bids of the same time.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q18 AS
SELECT auction, bidder, price, channel, url, date_time, extra
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, price, extra) AS place
    FROM nexmark.bid
) AS bids
WHERE place <= 1;

CREATE MATERIALIZED VIEW q18_sums AS
SELECT
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    sum(length(channel) + length(url) + length(extra)) AS texts,
    sum(extract(epoch FROM date_time)) AS date_time
FROM q18;
