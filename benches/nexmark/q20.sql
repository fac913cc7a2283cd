-- Query 20, expand bid with auction: the bids for auctions of category 10, each with its auction.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q20 AS
SELECT
    b.auction, b.bidder, b.price, b.channel, b.url, b.date_time, b.extra,
    a.item_name, a.description, a.initial_bid, a.reserve, a.date_time AS auction_date_time, a.expires, a.seller,
    a.category, a.extra AS auction_extra
FROM nexmark.bid b
JOIN nexmark.auction a ON b.auction = a.id
WHERE a.category = 10;

CREATE MATERIALIZED VIEW q20_sums AS
SELECT
    category,
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    sum(length(channel) + length(url) + length(extra)) AS texts,
    sum(extract(epoch FROM date_time)) AS date_time,
    sum(length(item_name) + length(description) + length(auction_extra)) AS auction_texts,
    sum(initial_bid) AS initial_bid,
    sum(reserve) AS reserve,
    sum(extract(epoch FROM auction_date_time)) AS auction_date_time,
    sum(extract(epoch FROM expires)) AS expires,
    sum(seller) AS seller
FROM q20
GROUP BY category;
