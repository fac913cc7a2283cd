-- Query 6, average selling price by seller: of each one's auctions and the ten before, by when they were won.
--
-- As the reference writes it, with the id to decide between auctions that were won at the same time.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW won AS
SELECT id, seller, price, date_time
FROM (
    SELECT
        a.id, a.seller, b.price, b.date_time,
        row_number() OVER (PARTITION BY a.id, a.seller ORDER BY b.price DESC, b.date_time) AS place
    FROM nexmark.auction a
    JOIN nexmark.bid b ON a.id = b.auction
    WHERE b.date_time BETWEEN a.date_time AND a.expires
) AS bids
WHERE place <= 1;

CREATE MATERIALIZED VIEW q6 AS
SELECT
    id,
    seller,
    avg(price) OVER (
        PARTITION BY seller ORDER BY date_time, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW
    ) AS price
FROM won;
