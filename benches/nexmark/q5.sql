-- Query 5, hot items: which auctions had the most bids in each 10 seconds, every 2 seconds?
--
-- There are no sliding windows: each bid is counted in its five. The most are those of rank 1.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW hops AS
SELECT auction, date_bin('2 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') AS starttime
FROM nexmark.bid
UNION ALL
SELECT auction, date_bin('2 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') - INTERVAL '2 seconds' AS starttime
FROM nexmark.bid
UNION ALL
SELECT auction, date_bin('2 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') - INTERVAL '4 seconds' AS starttime
FROM nexmark.bid
UNION ALL
SELECT auction, date_bin('2 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') - INTERVAL '6 seconds' AS starttime
FROM nexmark.bid
UNION ALL
SELECT auction, date_bin('2 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') - INTERVAL '8 seconds' AS starttime
FROM nexmark.bid;

CREATE VIEW counted AS
SELECT auction, starttime, count(*) AS num
FROM hops
GROUP BY auction, starttime;

CREATE MATERIALIZED VIEW q5 AS
SELECT auction, num, starttime
FROM (
    SELECT auction, num, starttime, rank() OVER (PARTITION BY starttime ORDER BY num DESC) AS place
    FROM counted
) AS ranked
WHERE place <= 1;
