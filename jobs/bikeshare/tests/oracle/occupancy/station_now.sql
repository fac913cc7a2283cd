-- As of the last snapshot, with subqueries in the place of joins.
SELECT
    t.station_id,
    s.name,
    s.capacity,
    coalesce(s.quartier, 'commune ' || s.region) AS area_id,
    coalesce((SELECT q.name FROM raw.quartiers_listed q WHERE q.id = s.quartier), s.region) AS area,
    (SELECT (q.properties::jsonb ->> 'c_ar')::int FROM raw.quartiers_listed q WHERE q.id = s.quartier) AS arrondissement,
    t.bikes,
    t.docks,
    CASE WHEN t.bikes + t.docks > 0 THEN t.bikes::float8 / (t.bikes + t.docks) END AS rate,
    CASE
        WHEN NOT t.is_installed OR NOT t.is_renting OR t.bikes + t.docks = 0 THEN 'closed'
        WHEN t.bikes = 0 THEN 'empty'
        WHEN t.docks = 0 THEN 'full'
        WHEN t.bikes::float8 / (t.bikes + t.docks) <= 0.2 THEN 'low'
        ELSE 'ok'
    END AS state,
    t.last_reported AS reported_at,
    coalesce(snapshot_time() - t.last_reported >= interval '2 hours', false) AS is_silent
FROM raw.status t
LEFT JOIN raw.stations s USING (station_id)
