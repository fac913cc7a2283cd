-- Query 9, winning bids: the highest bid for each auction while it ran; of equal ones the first.
--
-- With the bidder to decide between equal ones of the same time.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q9 AS
SELECT
    id, item_name, description, initial_bid, reserve, date_time, expires, seller, category, extra,
    auction, bidder, price, bid_date_time, bid_extra
FROM (
    SELECT
        a.*, b.auction, b.bidder, b.price, b.date_time AS bid_date_time, b.extra AS bid_extra,
        row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.bidder, b.extra) AS place
    FROM nexmark.auction a
    JOIN nexmark.bid b ON a.id = b.auction
    WHERE b.date_time BETWEEN a.date_time AND a.expires
) AS bids
WHERE place <= 1;

CREATE MATERIALIZED VIEW q9_sums AS
SELECT
    category,
    count(*) AS rows,
    sum(length(item_name) + length(description) + length(extra) + length(bid_extra)) AS texts,
    sum(initial_bid) AS initial_bid,
    sum(reserve) AS reserve,
    sum(extract(epoch FROM date_time)) AS date_time,
    sum(extract(epoch FROM expires)) AS expires,
    sum(seller) AS seller,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    sum(extract(epoch FROM bid_date_time)) AS bid_date_time
FROM q9
GROUP BY category;
