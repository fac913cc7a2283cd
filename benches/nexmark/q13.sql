-- Query 13, bounded side input join: every bid with a value that a table of 10,000 rows has for its auction.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW digits AS
SELECT digit
FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS digits (digit);

CREATE VIEW side_input AS
SELECT
    1000 * a.digit + 100 * b.digit + 10 * c.digit + d.digit AS key,
    CAST(1000 * a.digit + 100 * b.digit + 10 * c.digit + d.digit AS text) AS value
FROM digits a
CROSS JOIN digits b
CROSS JOIN digits c
CROSS JOIN digits d;

CREATE VIEW q13 AS
SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM nexmark.bid b
JOIN side_input s ON b.auction % 10000 = s.key;

CREATE MATERIALIZED VIEW q13_sums AS
SELECT
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    max(date_time) AS date_time,
    sum(length(value)) AS value
FROM q13;
