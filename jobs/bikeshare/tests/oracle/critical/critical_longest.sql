-- The first 50 alarms of each kind that stand: an alarm is among them if fewer than 50 come before it.
WITH standing AS (
    SELECT a.station_id, a.kind, a.began AS since, s.name
    FROM alarms() a
    JOIN raw.status t USING (station_id)
    JOIN raw.stations s USING (station_id)
    WHERE a.ended IS NULL AND snapshot_time() - a.began >= interval '5 minutes' AND s.capacity > 0
)
SELECT *
FROM standing a
WHERE (
    SELECT count(*)
    FROM standing b
    WHERE b.kind = a.kind AND (b.since, b.station_id COLLATE "C") < (a.since, a.station_id COLLATE "C")
) < 50
