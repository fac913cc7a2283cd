-- Each station asks the raw rows for each figure.
WITH clock AS MATERIALIZED (SELECT snapshot_time() AS now),
in_force AS (
    SELECT
        station_id, bikes, observed_at AS since,
        lead(observed_at) OVER (PARTITION BY station_id ORDER BY observed_at) AS until
    FROM raw.observations
),
trend AS (
    SELECT
        t.station_id, t.bikes, t.docks,
        (SELECT regr_slope(o.bikes, extract(epoch FROM o.observed_at - clock.now)::float8 / 3600)
         FROM raw.observations o
         WHERE o.station_id = t.station_id AND o.observed_at > clock.now - interval '15 minutes') AS slope_15,
        (SELECT regr_slope(o.bikes, extract(epoch FROM o.observed_at - clock.now)::float8 / 3600)
         FROM raw.observations o
         WHERE o.station_id = t.station_id AND o.observed_at > clock.now - interval '60 minutes') AS slope_60,
        (SELECT i.bikes FROM in_force i
         WHERE i.station_id = t.station_id AND clock.now - interval '15 minutes' >= i.since
           AND clock.now - interval '15 minutes' < i.until AND i.until - i.since <= interval '20 minutes') AS ago_15,
        (SELECT i.bikes FROM in_force i
         WHERE i.station_id = t.station_id AND clock.now - interval '60 minutes' >= i.since
           AND clock.now - interval '60 minutes' < i.until AND i.until - i.since <= interval '20 minutes') AS ago_60,
        (SELECT avg(o.bikes) FROM raw.observations o
         WHERE o.station_id = t.station_id
           AND date_trunc('hour', o.observed_at) = date_trunc('hour', clock.now - interval '24 hours')) AS ago_day,
        (SELECT avg(o.bikes) FROM raw.observations o
         WHERE o.station_id = t.station_id
           AND date_trunc('hour', o.observed_at) = date_trunc('hour', clock.now - interval '168 hours')) AS ago_week
    FROM raw.status t, clock
)
SELECT
    station_id, bikes, docks, slope_15, slope_60,
    CASE WHEN slope_15 <= -1 THEN bikes / -slope_15 * 60 END AS minutes_to_empty,
    CASE WHEN slope_15 >= 1 THEN docks / slope_15 * 60 END AS minutes_to_full,
    (bikes - ago_15)::float8 AS change_15,
    (bikes - ago_60)::float8 AS change_60,
    (bikes - ago_day)::float8 AS change_day,
    (bikes - ago_week)::float8 AS change_week
FROM trend
