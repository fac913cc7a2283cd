-- Query 5, hot items: which auctions had the most bids in each 10 seconds, every 2 seconds?
--
-- A window is the sum of five slices of 2 seconds, as engines with sliding windows also compute it.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW hops AS
SELECT shift
FROM (VALUES
    (INTERVAL '0 seconds'), (INTERVAL '2 seconds'), (INTERVAL '4 seconds'), (INTERVAL '6 seconds'),
    (INTERVAL '8 seconds')
) AS hops (shift);

CREATE VIEW slices AS
SELECT auction, date_bin('2 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') AS slice, count(*) AS num
FROM nexmark.bid
GROUP BY auction, date_bin('2 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00');

CREATE VIEW counted AS
SELECT s.auction, s.slice - h.shift AS starttime, sum(s.num) AS num
FROM slices s
CROSS JOIN hops h
GROUP BY s.auction, s.slice - h.shift;

CREATE VIEW most AS
SELECT starttime, max(num) AS num
FROM counted
GROUP BY starttime;

CREATE MATERIALIZED VIEW q5 AS
SELECT c.auction, c.num, c.starttime
FROM counted c
JOIN most m ON c.starttime = m.starttime AND c.num = m.num;
