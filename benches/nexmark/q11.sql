-- Query 11, user sessions: the bids of each bidder until none came for 10 seconds.
--
-- There are no session windows; a session is where the bid before is too long ago, and those are numbered.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW gaps AS
SELECT
    bidder,
    date_time,
    lag(date_time) OVER (PARTITION BY bidder ORDER BY date_time) AS before
FROM nexmark.bid;

CREATE VIEW numbered AS
SELECT
    bidder,
    date_time,
    sum(CASE WHEN date_time <= before + INTERVAL '10 seconds' THEN 0 ELSE 1 END)
        OVER (PARTITION BY bidder ORDER BY date_time) AS session
FROM gaps;

CREATE VIEW q11 AS
SELECT
    bidder,
    session,
    count(*) AS bid_count,
    min(date_time) AS starttime,
    max(date_time) + INTERVAL '10 seconds' AS endtime
FROM numbered
GROUP BY bidder, session;

CREATE MATERIALIZED VIEW q11_sums AS
SELECT count(*) AS rows, sum(bidder) AS bidder, sum(bid_count) AS bid_count, sum(extract(epoch FROM starttime)) AS starttime
FROM q11;
