-- Round by round: of each station that has run out, all that is reached at each distance, from every pair of stations.
WITH RECURSIVE
    places AS (
        SELECT station_id, name, lat, lon, docks, coalesce(t.is_installed AND t.is_returning AND t.docks > 0, false) AS has
        FROM raw.stations s JOIN raw.status t USING (station_id) WHERE lat IS NOT NULL AND lon IS NOT NULL
    ),
    pairs AS (
        SELECT
            a.station_id, b.station_id AS neighbour,
            round(111195 * sqrt((b.lat - a.lat) ^ 2 + ((b.lon - a.lon) * cos(radians(a.lat))) ^ 2))::bigint AS metres
        FROM raw.stations a JOIN raw.stations b ON a.station_id <> b.station_id
            AND abs(floor(a.lat / 0.0045) - floor(b.lat / 0.0045)) <= 1
            AND abs(floor(a.lon / 0.0068) - floor(b.lon / 0.0068)) <= 1
    ),
    near AS (
        SELECT station_id, neighbour, metres
        FROM (
            SELECT p.*, row_number() OVER (PARTITION BY p.station_id ORDER BY p.metres, p.neighbour) AS nth FROM pairs p
        ) AS numbered
        JOIN places q USING (station_id)
        WHERE NOT q.has AND nth <= 4
    ),
    ways (origin, reached, metres, path) AS (
        SELECT station_id, station_id, 0::bigint, ARRAY[station_id] FROM places WHERE NOT has
        UNION ALL
        SELECT w.origin, n.neighbour, w.metres + n.metres, w.path || n.neighbour
        FROM ways w JOIN near n ON n.station_id = w.reached
        WHERE w.metres + n.metres <= 1000 AND n.neighbour <> ALL (w.path)
    )
SELECT o.station_id, o.name, reached AS nearest_id, r.name AS nearest_name, metres, r.docks
FROM (
    SELECT origin, min(metres) AS metres FROM ways JOIN places p ON p.station_id = reached AND p.has GROUP BY origin
) best
JOIN LATERAL (
    SELECT min(w.reached) AS reached FROM ways w JOIN places p ON p.station_id = w.reached AND p.has
    WHERE w.origin = best.origin AND w.metres = best.metres
) which ON true
JOIN places o ON o.station_id = best.origin
JOIN places r ON r.station_id = which.reached
