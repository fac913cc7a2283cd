-- extract() of a time without a zone, as PostgreSQL has it.
WITH station_profile AS (
    SELECT
        o.station_id,
        extract(isodow FROM timezone('Europe/Paris', o.observed_at))::int AS weekday,
        extract(hour FROM timezone('Europe/Paris', o.observed_at))::int AS hour,
        avg(o.bikes)::float8 AS bikes,
        avg(o.docks)::float8 AS docks,
        count(*) AS snapshots
    FROM raw.observations o
    GROUP BY 1, 2, 3
)
SELECT
    coalesce(s.quartier, 'commune ' || s.region) AS area_id,
    p.weekday,
    p.hour,
    count(*) AS stations,
    sum(p.bikes) AS bikes,
    sum(p.docks) AS docks,
    sum(p.bikes) / nullif(sum(p.bikes + p.docks), 0) AS rate,
    sum(p.snapshots) AS snapshots
FROM station_profile p
JOIN raw.stations s USING (station_id)
WHERE s.quartier IS NOT NULL OR s.region IS NOT NULL
GROUP BY 1, 2, 3
