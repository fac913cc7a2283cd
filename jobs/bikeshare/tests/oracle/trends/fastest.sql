-- The ranking of the trends that the job itself found, as PostgreSQL ranks.
SELECT direction, row_number AS place, station_id, slope_15
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY direction ORDER BY abs(slope_15) DESC, station_id)
    FROM (
        SELECT *, CASE WHEN slope_15 > 0 THEN 'filling' ELSE 'emptying' END AS direction
        FROM trends.station_trend
        WHERE abs(slope_15) >= 1
    ) AS moving
) AS ranked
WHERE row_number <= 20
