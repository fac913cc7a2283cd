-- The work as a job of the engine. Since when a station is as it is follows from its turns, and its trend from the rows
-- of the last hour, as in `jobs/bikeshare`.

SET PARAMETER feed = 'data';
-- How many times real time; empty: as fast as it goes, snapshots of an hour together.
SET PARAMETER speed = '';

CREATE SOURCE velib FROM GBFS (url = $feed, speed = $speed);

-- By station first: a join holds what it is given.
CREATE VIEW station_hour AS
SELECT
    station_id,
    date_trunc('hour', observed_at) AS hour,
    count(*) AS snapshots,
    sum(bikes) AS bikes,
    sum(docks) AS docks,
    count(*) FILTER (WHERE bikes = 0 AND is_renting) AS out_of_bikes,
    count(*) FILTER (WHERE docks = 0 AND is_returning) AS out_of_docks
FROM velib.observations
GROUP BY station_id, date_trunc('hour', observed_at);

CREATE MATERIALIZED VIEW area_hour AS
SELECT
    s.region AS area,
    h.hour,
    sum(h.snapshots) AS snapshots,
    CAST(sum(h.bikes) AS double precision) / sum(h.snapshots) AS bikes,
    CAST(sum(h.docks) AS double precision) / sum(h.snapshots) AS docks,
    sum(h.out_of_bikes) AS out_of_bikes,
    sum(h.out_of_docks) AS out_of_docks
FROM station_hour h
JOIN velib.stations s ON s.station_id = h.station_id
GROUP BY s.region, h.hour;

CREATE VIEW latest AS
SELECT
    station_id,
    max(observed_at) AS observed_at,
    last_value(bikes ORDER BY observed_at) AS bikes,
    last_value(docks ORDER BY observed_at) AS docks
FROM velib.observations
GROUP BY station_id;

CREATE MATERIALIZED VIEW station_now AS
SELECT
    l.station_id,
    s.name,
    s.region AS area,
    l.observed_at,
    l.bikes,
    l.docks,
    CAST(l.bikes AS double precision) / nullif(l.bikes + l.docks, 0) AS rate
FROM latest l
JOIN velib.stations s ON s.station_id = l.station_id;

-- The observations at which a station came to be as it is.
CREATE VIEW turns AS
SELECT station_id, observed_at, condition
FROM (
    SELECT
        station_id,
        observed_at,
        condition,
        lag(condition) OVER (PARTITION BY station_id ORDER BY observed_at) AS before
    FROM (
        SELECT
            station_id,
            observed_at,
            CASE
                WHEN bikes = 0 THEN 'empty'
                WHEN docks = 0 THEN 'full'
                WHEN bikes * 10 < bikes + docks THEN 'low'
                ELSE 'fine'
            END AS condition
        FROM velib.observations
    ) judged
) told
WHERE condition <> coalesce(before, 'unknown');

CREATE MATERIALIZED VIEW critical AS
SELECT n.station_id, n.name, n.area, t.condition, t.since, n.bikes, n.docks
FROM (
    SELECT station_id, last_value(condition ORDER BY observed_at) AS condition, max(observed_at) AS since
    FROM turns
    GROUP BY station_id
) t
JOIN station_now n ON n.station_id = t.station_id
WHERE t.condition <> 'fine';

CREATE MATERIALIZED VIEW station_trend AS
SELECT
    station_id,
    regr_slope(CAST(bikes AS double precision), extract(epoch FROM observed_at) / 3600) AS slope
FROM velib.observations
WHERE observed_at > now() - INTERVAL '60 minutes'
GROUP BY station_id;

CREATE MATERIALIZED VIEW station_week AS
SELECT
    station_id,
    CAST(extract(isodow FROM observed_at) AS int) AS weekday,
    CAST(extract(hour FROM observed_at) AS int) AS hour,
    avg(bikes) AS bikes,
    count(*) AS snapshots
FROM velib.observations
GROUP BY station_id, extract(isodow FROM observed_at), extract(hour FROM observed_at);
