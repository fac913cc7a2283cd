-- Every span cut at the hours that it touches: each hour is laid over all spans, instead of each span over its hours.
WITH spans AS (
    SELECT
        station_id, bikes, docks, is_installed AND is_renting AS is_open,
        observed_at AS since,
        lead(observed_at) OVER (PARTITION BY station_id ORDER BY observed_at) AS until
    FROM raw.observations
),
hours AS (
    SELECT DISTINCT station_id, date_trunc('hour', observed_at) AS hour FROM raw.observations
),
cut AS (
    SELECT
        h.station_id, h.hour, s.bikes, s.docks, s.is_open,
        extract(epoch FROM least(s.until, h.hour + interval '1 hour') - greatest(s.since, h.hour))::float8 AS seconds
    FROM hours h
    JOIN spans s ON s.station_id = h.station_id
        AND s.until - s.since <= interval '20 minutes'
        AND s.since < h.hour + interval '1 hour' AND s.until > h.hour
),
seen AS (
    SELECT station_id, date_trunc('hour', observed_at) AS hour, min(bikes) AS least, max(bikes) AS most, count(*) AS n
    FROM raw.observations
    GROUP BY 1, 2
)
SELECT
    h.station_id,
    h.hour,
    sum(c.bikes * c.seconds) / sum(c.seconds) AS bikes,
    sum(c.docks * c.seconds) / sum(c.seconds) AS docks,
    sum(c.bikes::float8 / nullif(c.bikes + c.docks, 0) * c.seconds)
        / sum(c.seconds) FILTER (WHERE c.bikes + c.docks > 0) AS rate,
    min(seen.least) AS bikes_min,
    max(seen.most) AS bikes_max,
    coalesce(sum(c.seconds) FILTER (WHERE c.bikes = 0 AND c.is_open), 0) / sum(c.seconds) AS share_empty,
    coalesce(sum(c.seconds) FILTER (WHERE c.docks = 0 AND c.is_open), 0) / sum(c.seconds) AS share_full,
    coalesce(sum(c.seconds) FILTER (WHERE NOT c.is_open), 0) / sum(c.seconds) AS share_closed,
    coalesce(sum(c.seconds), 0) AS seconds,
    max(seen.n) AS snapshots
FROM hours h
JOIN seen USING (station_id, hour)
LEFT JOIN cut c USING (station_id, hour)
GROUP BY h.station_id, h.hour
