-- Query 8, monitor new users: who came and opened an auction within the same 10 seconds?

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW came AS
SELECT id, name, date_bin('10 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') AS starttime
FROM nexmark.person
GROUP BY id, name, date_bin('10 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00');

CREATE VIEW sold AS
SELECT seller, date_bin('10 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00') AS starttime
FROM nexmark.auction
GROUP BY seller, date_bin('10 seconds', date_time, TIMESTAMP '1970-01-01 00:00:00');

CREATE MATERIALIZED VIEW q8 AS
SELECT c.id, c.name, c.starttime
FROM came c
JOIN sold s ON c.id = s.seller AND c.starttime = s.starttime;
