-- The work: the mission's three views, in SQL that DataFusion, DuckDB and PostgreSQL take as it is, over
--
--   observations(station_id text, observed_at timestamp, bikes int, mechanical int, ebikes int, docks int,
--                is_installed boolean, is_renting boolean, is_returning boolean, last_reported timestamp)
--   stations(station_id text, code text, name text, lat double, lon double, capacity int, region text)
--
-- with `region` as the area of a station. Whoever says it in another language gives the same five tables.

-- Occupancy: each area by the hour.
CREATE VIEW area_hour AS
SELECT
    s.region AS area,
    date_trunc('hour', o.observed_at) AS hour,
    count(*) AS snapshots,
    avg(o.bikes) AS bikes,
    avg(o.docks) AS docks,
    count(*) FILTER (WHERE o.bikes = 0 AND o.is_renting) AS out_of_bikes,
    count(*) FILTER (WHERE o.docks = 0 AND o.is_returning) AS out_of_docks
FROM observations o
JOIN stations s ON s.station_id = o.station_id
GROUP BY s.region, date_trunc('hour', o.observed_at);

-- Occupancy: each station as it was seen last.
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
JOIN (SELECT station_id, max(observed_at) AS observed_at FROM observations GROUP BY station_id) latest
    ON latest.station_id = o.station_id AND latest.observed_at = o.observed_at
JOIN stations s ON s.station_id = o.station_id;

-- Critical: the stations that are empty, full or low (below a tenth) now, and since when they have been just that:
-- from the first observation after the last one that said otherwise.
CREATE VIEW judged AS
SELECT
    station_id,
    observed_at,
    CASE WHEN bikes = 0 THEN 'empty' WHEN docks = 0 THEN 'full' WHEN bikes * 10 < bikes + docks THEN 'low' ELSE 'fine' END
        AS condition
FROM observations;

CREATE VIEW critical_now AS
SELECT station_id, name, area, bikes, docks,
    CASE WHEN bikes = 0 THEN 'empty' WHEN docks = 0 THEN 'full' ELSE 'low' END AS condition
FROM station_now
WHERE bikes = 0 OR docks = 0 OR bikes * 10 < bikes + docks;

CREATE VIEW critical AS
SELECT n.station_id, n.name, n.area, n.condition, min(j.observed_at) AS since, n.bikes, n.docks
FROM critical_now n
JOIN judged j ON j.station_id = n.station_id
LEFT JOIN (
    SELECT n.station_id, max(j.observed_at) AS observed_at
    FROM critical_now n
    JOIN judged j ON j.station_id = n.station_id AND j.condition <> n.condition
    GROUP BY n.station_id
) other ON other.station_id = n.station_id
WHERE other.observed_at IS NULL OR j.observed_at > other.observed_at
GROUP BY n.station_id, n.name, n.area, n.condition, n.bikes, n.docks;

-- Trend: where the bikes of each station are going, in bikes an hour over the last 60 minutes.
CREATE VIEW station_trend AS
SELECT
    station_id,
    regr_slope(CAST(bikes AS double precision), CAST(extract(epoch FROM observed_at) AS double precision) / 3600) AS slope
FROM observations
WHERE observed_at > (SELECT max(observed_at) FROM observations) - INTERVAL '60 minutes'
GROUP BY station_id;

-- Trend: each station by the hour of the week (1 is Monday).
CREATE VIEW station_week AS
SELECT
    station_id,
    CAST(extract(isodow FROM observed_at) AS int) AS weekday,
    CAST(extract(hour FROM observed_at) AS int) AS hour,
    avg(bikes) AS bikes,
    count(*) AS snapshots
FROM observations
GROUP BY station_id, extract(isodow FROM observed_at), extract(hour FROM observed_at);
