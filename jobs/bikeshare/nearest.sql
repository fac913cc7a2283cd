-- Where to go instead: of each station that has run out, the nearest one that has what it lacks.
--
--   nearest_bike        for stations without a bike to take
--   nearest_dock        for stations without a free dock
--
-- On the way from station to station: to one of the nearest neighbours and, if that has run out as well, on from
-- there. So what is found is on foot, past stations that may have been filled by then; and when one station runs out or
-- is filled, only the ways that lead over it are looked for again.

-- A GBFS feed: the address of its discovery document, or a path to recorded documents.
SET PARAMETER feed = 'https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole/gbfs.json';
-- How often to ask it. The counts change every minute, whatever its ttl says.
SET PARAMETER poll = '60 s';
-- How many times real time recorded documents are played; empty: as fast as they can be read.
SET PARAMETER speed = '';
-- How many neighbours of a station are looked at.
SET PARAMETER neighbours = 4;
-- The longest way in all, in metres.
SET PARAMETER walk = 1000;

CREATE SOURCE velib FROM GBFS (url = $feed, poll = $poll, speed = $speed);


-- Stations and their neighbours --------------------------------------------------------------------------------------

CREATE VIEW places AS
SELECT
    s.station_id,
    s.name,
    s.lat,
    s.lon,
    t.bikes,
    t.docks,
    coalesce(t.is_installed AND t.is_renting AND t.bikes > 0, false) AS gives,
    coalesce(t.is_installed AND t.is_returning AND t.docks > 0, false) AS takes
FROM velib.stations s
JOIN velib.status t USING (station_id)
WHERE s.lat IS NOT NULL AND s.lon IS NOT NULL;

CREATE FUNCTION metres (lat1 DOUBLE PRECISION, lon1 DOUBLE PRECISION, lat2 DOUBLE PRECISION, lon2 DOUBLE PRECISION)
RETURNS BIGINT
RETURN round(111195 * sqrt(power(lat2 - lat1, 2) + power((lon2 - lon1) * cos(radians(lat1)), 2)));

-- Cells of about 500 m: a neighbour is in the same one or in one of those around it.
CREATE VIEW cells AS
SELECT
    station_id, lat, lon,
    CAST(floor(lat / 0.0045) AS BIGINT) AS y,
    CAST(floor(lon / 0.0068) AS BIGINT) AS x
FROM velib.stations
WHERE lat IS NOT NULL AND lon IS NOT NULL;

CREATE TABLE around (dx BIGINT, dy BIGINT);
INSERT INTO around VALUES (-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0), (1, 1);

CREATE VIEW near AS
SELECT station_id, neighbour, metres
FROM (
    SELECT station_id, neighbour, metres, row_number() OVER (PARTITION BY station_id ORDER BY metres, neighbour) AS nth
    FROM (
        SELECT a.station_id, b.station_id AS neighbour, metres(a.lat, a.lon, b.lat, b.lon) AS metres
        FROM (SELECT c.station_id, c.lat, c.lon, c.x + d.dx AS x, c.y + d.dy AS y FROM cells c CROSS JOIN around d) AS a
        JOIN cells b ON b.x = a.x AND b.y = a.y
        WHERE b.station_id <> a.station_id
    ) AS pairs
) AS numbered
WHERE nth <= $neighbours;


-- Ways ---------------------------------------------------------------------------------------------------------------

CREATE MATERIALIZED VIEW nearest_bike WITH (key = 'station_id') AS
WITH RECURSIVE
    steps AS (
        SELECT n.station_id, n.neighbour, n.metres FROM near n JOIN places p USING (station_id) WHERE NOT p.gives
    ),
    ways AS (
        SELECT station_id, neighbour AS reached, metres FROM steps WHERE metres <= $walk
        UNION
        SELECT w.station_id, s.neighbour, w.metres + s.metres
        FROM ways w
        JOIN steps s ON s.station_id = w.reached
        WHERE w.metres + s.metres <= $walk
    )
SELECT DISTINCT ON (w.station_id)
    w.station_id,
    p.name,
    w.reached AS nearest_id,
    q.name AS nearest_name,
    w.metres,
    q.bikes
FROM ways w
JOIN places p ON p.station_id = w.station_id
JOIN places q ON q.station_id = w.reached
WHERE q.gives
ORDER BY w.station_id, w.metres, w.reached;

COMMENT ON VIEW nearest_bike IS 'Of each station without a bike to take, the nearest that has one. None within the longest way: no row.';
COMMENT ON COLUMN nearest_bike.station_id IS 'The station that has run out of bikes.';
COMMENT ON COLUMN nearest_bike.name IS 'Its name.';
COMMENT ON COLUMN nearest_bike.nearest_id IS 'The station to go to.';
COMMENT ON COLUMN nearest_bike.nearest_name IS 'Its name.';
COMMENT ON COLUMN nearest_bike.metres IS 'The way there, in metres, in straight lines from station to station.';
COMMENT ON COLUMN nearest_bike.bikes IS 'Bikes at the station to go to.';

CREATE MATERIALIZED VIEW nearest_dock WITH (key = 'station_id') AS
WITH RECURSIVE
    steps AS (
        SELECT n.station_id, n.neighbour, n.metres FROM near n JOIN places p USING (station_id) WHERE NOT p.takes
    ),
    ways AS (
        SELECT station_id, neighbour AS reached, metres FROM steps WHERE metres <= $walk
        UNION
        SELECT w.station_id, s.neighbour, w.metres + s.metres
        FROM ways w
        JOIN steps s ON s.station_id = w.reached
        WHERE w.metres + s.metres <= $walk
    )
SELECT DISTINCT ON (w.station_id)
    w.station_id,
    p.name,
    w.reached AS nearest_id,
    q.name AS nearest_name,
    w.metres,
    q.docks
FROM ways w
JOIN places p ON p.station_id = w.station_id
JOIN places q ON q.station_id = w.reached
WHERE q.takes
ORDER BY w.station_id, w.metres, w.reached;

COMMENT ON VIEW nearest_dock IS 'Of each station without a free dock, the nearest that has one. None within the longest way: no row.';
COMMENT ON COLUMN nearest_dock.station_id IS 'The station that has run out of free docks.';
COMMENT ON COLUMN nearest_dock.name IS 'Its name.';
COMMENT ON COLUMN nearest_dock.nearest_id IS 'The station to go to.';
COMMENT ON COLUMN nearest_dock.nearest_name IS 'Its name.';
COMMENT ON COLUMN nearest_dock.metres IS 'The way there, in metres, in straight lines from station to station.';
COMMENT ON COLUMN nearest_dock.docks IS 'Free docks at the station to go to.';
