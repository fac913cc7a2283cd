-- Query 19, top ten: the ten highest bids for each auction.
--
-- With time and letters to decide between equal prices.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q19 AS
SELECT *
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY auction ORDER BY price DESC, date_time, extra) AS place
    FROM nexmark.bid
) AS bids
WHERE place <= 10;

CREATE MATERIALIZED VIEW q19_sums AS
SELECT
    place,
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    sum(length(channel) + length(url) + length(extra)) AS texts,
    sum(extract(epoch FROM date_time)) AS date_time
FROM q19
GROUP BY place;
