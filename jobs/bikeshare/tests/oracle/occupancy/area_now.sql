-- From the raw rows, area by area.
SELECT
    coalesce(s.quartier, 'commune ' || s.region) AS area_id,
    count(*) AS stations,
    sum(t.bikes) FILTER (WHERE t.is_installed AND t.is_renting AND t.bikes + t.docks > 0) AS bikes,
    sum(t.docks) FILTER (WHERE t.is_installed AND t.is_renting AND t.bikes + t.docks > 0) AS docks,
    count(*) FILTER (WHERE NOT (t.is_installed AND t.is_renting AND t.bikes + t.docks > 0)) AS closed
FROM raw.status t
JOIN raw.stations s USING (station_id)
WHERE s.quartier IS NOT NULL OR s.region IS NOT NULL
GROUP BY 1
