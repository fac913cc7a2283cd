-- Query 4, average price for a category: the average of the winning bids of its auctions.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW closing AS
SELECT a.id, a.category, max(b.price) AS final
FROM nexmark.auction a
JOIN nexmark.bid b ON a.id = b.auction
WHERE b.date_time BETWEEN a.date_time AND a.expires
GROUP BY a.id, a.category;

CREATE MATERIALIZED VIEW q4 AS
SELECT category, avg(final) AS price
FROM closing
GROUP BY category;
