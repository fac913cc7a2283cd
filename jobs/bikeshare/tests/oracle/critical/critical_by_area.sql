SELECT
    coalesce(s.quartier, 'commune ' || s.region) AS area_id,
    count(DISTINCT s.station_id) AS stations,
    count(*) FILTER (WHERE a.kind = 'empty') AS empty,
    count(*) FILTER (WHERE a.kind = 'full') AS full
FROM raw.stations s
LEFT JOIN alarms() a ON a.station_id = s.station_id
    AND a.ended IS NULL
    AND snapshot_time() - a.began >= interval '5 minutes'
    AND EXISTS (SELECT FROM raw.status t WHERE t.station_id = s.station_id)
WHERE s.capacity > 0 AND (s.quartier IS NOT NULL OR s.region IS NOT NULL)
GROUP BY 1
