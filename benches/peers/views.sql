-- The work: the mission's three views, in SQL that DataFusion, DuckDB and PostgreSQL take as it is, over
--
--   observations(station_id text, observed_at timestamp, bikes int, mechanical int, ebikes int, docks int,
--                is_installed boolean, is_renting boolean, is_returning boolean, last_reported timestamp)
--   stations(station_id text, code text, name text, lat double, lon double, capacity int, region text)
--
-- with `region` as the area of a station. Whoever says it in another language gives the same five tables.

-- What is needed of history, in one pass: each station by the hour, and when it was last not empty, not full, not low
-- (below a tenth; who is empty or full is not low).
CREATE TABLE station_hour AS
SELECT
    station_id,
    date_trunc('hour', observed_at) AS hour,
    count(*) AS snapshots,
    sum(bikes) AS bikes,
    sum(docks) AS docks,
    count(*) FILTER (WHERE bikes = 0 AND is_renting) AS out_of_bikes,
    count(*) FILTER (WHERE docks = 0 AND is_returning) AS out_of_docks,
    max(observed_at) AS last,
    max(observed_at) FILTER (WHERE bikes > 0) AS not_empty,
    max(observed_at) FILTER (WHERE docks > 0 OR bikes = 0) AS not_full,
    max(observed_at) FILTER (WHERE bikes = 0 OR docks = 0 OR bikes * 10 >= bikes + docks) AS not_low
FROM observations
GROUP BY station_id, date_trunc('hour', observed_at);

-- Occupancy: each area by the hour.
CREATE VIEW area_hour AS
SELECT
    s.region AS area,
    h.hour,
    CAST(sum(h.snapshots) AS bigint) AS snapshots,
    CAST(sum(h.bikes) AS double precision) / sum(h.snapshots) AS bikes,
    CAST(sum(h.docks) AS double precision) / sum(h.snapshots) AS docks,
    CAST(sum(h.out_of_bikes) AS bigint) AS out_of_bikes,
    CAST(sum(h.out_of_docks) AS bigint) AS out_of_docks
FROM station_hour h
JOIN stations s ON s.station_id = h.station_id
GROUP BY s.region, h.hour;

-- Occupancy: each station as it was seen last.
CREATE VIEW latest AS
SELECT
    station_id,
    max(last) AS observed_at,
    max(not_empty) AS not_empty,
    max(not_full) AS not_full,
    max(not_low) AS not_low
FROM station_hour
GROUP BY station_id;

CREATE VIEW station_now AS
SELECT
    o.station_id,
    s.name,
    s.region AS area,
    o.observed_at,
    o.bikes,
    o.docks,
    CAST(o.bikes AS double precision) / nullif(o.bikes + o.docks, 0) AS rate
FROM observations o
JOIN latest l ON l.station_id = o.station_id AND l.observed_at = o.observed_at
JOIN stations s ON s.station_id = o.station_id
WHERE o.observed_at >= (SELECT min(observed_at) FROM latest);

-- Critical: the stations that are empty, full or low now, and since when they have been just that: from the first
-- observation after the last that said otherwise.
CREATE VIEW critical_now AS
SELECT
    n.*,
    CASE WHEN n.bikes = 0 THEN 'empty' WHEN n.docks = 0 THEN 'full' ELSE 'low' END AS condition,
    coalesce(
        CASE WHEN n.bikes = 0 THEN l.not_empty WHEN n.docks = 0 THEN l.not_full ELSE l.not_low END,
        TIMESTAMP '1970-01-01 00:00:00'
    ) AS otherwise
FROM station_now n
JOIN latest l ON l.station_id = n.station_id
WHERE n.bikes = 0 OR n.docks = 0 OR n.bikes * 10 < n.bikes + n.docks;

CREATE VIEW critical AS
SELECT n.station_id, n.name, n.area, n.condition, min(o.observed_at) AS since, n.bikes, n.docks
FROM critical_now n
JOIN observations o ON o.station_id = n.station_id AND o.observed_at > n.otherwise
WHERE o.observed_at > (SELECT min(otherwise) FROM critical_now)
GROUP BY n.station_id, n.name, n.area, n.condition, n.bikes, n.docks;

-- Trend: where the bikes of each station are going, in bikes an hour over the last 60 minutes.
CREATE VIEW station_trend AS
SELECT
    station_id,
    regr_slope(CAST(bikes AS double precision), CAST(extract(epoch FROM observed_at) AS double precision) / 3600)
        AS slope
FROM observations
WHERE observed_at > (SELECT max(observed_at) FROM latest) - INTERVAL '60 minutes'
GROUP BY station_id;

-- Trend: each station by the hour of the week (1 is Monday).
CREATE VIEW station_week AS
SELECT
    station_id,
    CAST(extract(isodow FROM hour) AS int) AS weekday,
    CAST(extract(hour FROM hour) AS int) AS hour,
    CAST(sum(bikes) AS double precision) / sum(snapshots) AS bikes,
    CAST(sum(snapshots) AS bigint) AS snapshots
FROM station_hour
GROUP BY station_id, extract(isodow FROM hour), extract(hour FROM hour);
