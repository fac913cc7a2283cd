-- The views as Flink keeps them up to date. It has no regr_slope, so the sums of the least squares are written out. A
-- join keeps all that it is given, so observations are summed by station before they are joined.

CREATE TEMPORARY VIEW area_hour AS
SELECT
    s.area,
    h.`hour`,
    sum(h.snapshots) AS snapshots,
    CAST(sum(h.bikes) AS DOUBLE) / sum(h.snapshots) AS bikes,
    CAST(sum(h.docks) AS DOUBLE) / sum(h.snapshots) AS docks,
    sum(h.out_of_bikes) AS out_of_bikes,
    sum(h.out_of_docks) AS out_of_docks
FROM (
    SELECT
        station_id,
        FLOOR(observed_at TO HOUR) AS `hour`,
        count(*) AS snapshots,
        sum(bikes) AS bikes,
        sum(docks) AS docks,
        count(*) FILTER (WHERE bikes = 0 AND is_renting) AS out_of_bikes,
        count(*) FILTER (WHERE docks = 0 AND is_returning) AS out_of_docks
    FROM observations
    GROUP BY station_id, FLOOR(observed_at TO HOUR)
) h
JOIN stations s ON s.station_id = h.station_id
GROUP BY s.area, h.`hour`;

-- Each observation with what it needs of those before it.
CREATE TEMPORARY VIEW seen AS
SELECT
    *,
    count(*) OVER hour_before AS n,
    sum(x) OVER hour_before AS sx,
    sum(y) OVER hour_before AS sy,
    sum(x * x) OVER hour_before AS sxx,
    sum(x * y) OVER hour_before AS sxy
FROM (
    SELECT
        *,
        CASE
            WHEN bikes = 0 THEN 'empty'
            WHEN docks = 0 THEN 'full'
            WHEN bikes * 10 < bikes + docks THEN 'low'
            ELSE 'fine'
        END AS `condition`,
        CAST(bikes AS DOUBLE) AS y,
        TIMESTAMPDIFF(SECOND, TIMESTAMP '2026-03-02 00:00:00', observed_at) / 3600e0 AS x
    FROM observations
)
WINDOW hour_before AS (
    PARTITION BY station_id ORDER BY observed_at
    RANGE BETWEEN INTERVAL '59:59.999' MINUTE TO SECOND PRECEDING AND CURRENT ROW
);

CREATE TEMPORARY VIEW latest AS
SELECT *
FROM (SELECT *, row_number() OVER (PARTITION BY station_id ORDER BY observed_at DESC) AS place FROM seen)
WHERE place = 1;

CREATE TEMPORARY VIEW turns AS
SELECT *
FROM (
    SELECT *, row_number() OVER (PARTITION BY station_id ORDER BY observed_at DESC) AS place
    FROM (
        SELECT
            station_id,
            observed_at,
            `condition`,
            lag(`condition`) OVER (PARTITION BY station_id ORDER BY observed_at) AS before
        FROM seen
    )
    WHERE before IS NULL OR before <> `condition`
)
WHERE place = 1;

CREATE TEMPORARY VIEW station_now AS
SELECT
    l.station_id,
    s.name,
    s.area,
    CAST(l.observed_at AS TIMESTAMP(3)) AS observed_at,
    l.bikes,
    l.docks,
    CAST(l.bikes AS DOUBLE) / nullif(l.bikes + l.docks, 0) AS rate
FROM latest l
JOIN stations s ON s.station_id = l.station_id;

CREATE TEMPORARY VIEW critical AS
SELECT n.station_id, n.name, n.area, t.`condition`, CAST(t.observed_at AS TIMESTAMP(3)) AS since, n.bikes, n.docks
FROM station_now n
JOIN turns t ON t.station_id = n.station_id
WHERE t.`condition` <> 'fine';

CREATE TEMPORARY VIEW station_trend AS
SELECT station_id, (n * sxy - sx * sy) / nullif(n * sxx - sx * sx, 0) AS slope
FROM latest;

CREATE TEMPORARY VIEW station_week AS
SELECT station_id, weekday, `hour`, avg(y) AS bikes, count(*) AS snapshots
FROM (
    SELECT
        station_id,
        CAST(MOD(DAYOFWEEK(CAST(observed_at AS DATE)) + 5, 7) + 1 AS INT) AS weekday,
        CAST(EXTRACT(HOUR FROM observed_at) AS INT) AS `hour`,
        CAST(bikes AS DOUBLE) AS y
    FROM observations
)
GROUP BY station_id, weekday, `hour`;
