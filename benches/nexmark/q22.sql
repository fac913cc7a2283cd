-- Query 22, directories: the first three of each bid's address.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q22 AS
SELECT
    auction, bidder, price, channel,
    split_part(url, '/', 4) AS dir1,
    split_part(url, '/', 5) AS dir2,
    split_part(url, '/', 6) AS dir3
FROM nexmark.bid;

CREATE MATERIALIZED VIEW q22_sums AS
SELECT
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    sum(length(channel) + length(dir1) + length(dir2) + length(dir3)) AS texts
FROM q22;
