-- The alarms without an end, of stations that are there.
SELECT
    a.station_id, a.kind, a.began AS since, t.bikes, t.docks, s.name,
    CASE a.kind WHEN 'empty' THEN t.bikes = 0 ELSE t.docks = 0 END AS nothing_left
FROM alarms() a
JOIN raw.status t USING (station_id)
JOIN raw.stations s USING (station_id)
WHERE a.ended IS NULL AND snapshot_time() - a.began >= interval '5 minutes' AND s.capacity > 0
