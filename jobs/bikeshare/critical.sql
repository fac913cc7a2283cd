-- Critical stations: those that have run out, or nearly, of bikes or of free docks.
--
--   critical_now        the alarms that stand
--   critical_log        the alarms that are over, one row each, for ever
--   critical_by_area    how many stand in each area
--   critical_longest    those that have stood for longest, for alerts
--
-- An alarm has a hysteresis: it is raised at a low count and cleared at a higher one, so that a station which
-- goes back and forth between two counts is one alarm. And it has a minimum duration: what is over sooner was
-- none.

-- A GBFS feed: the address of its discovery document, or a path to recorded documents.
SET PARAMETER feed = 'https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole/gbfs.json';
-- How often to ask it. The counts change every minute, whatever its ttl says.
SET PARAMETER poll = '60 s';
-- How many times real time recorded documents are played; empty: as fast as they can be read.
SET PARAMETER speed = '';
-- The areas of the city: GeoJSON polygons with the properties c_qu (id) and l_qu (name).
SET PARAMETER quartiers = 'https://opendata.paris.fr/api/explore/v2.1/catalog/datasets/quartier_paris/exports/geojson';
-- An alarm is raised when this many bikes (or docks) are left, or fewer. 0: only when there are none.
SET PARAMETER low = 1;
-- It is cleared when there are this many more.
SET PARAMETER hysteresis = 2;
-- It stands when it has lasted so long.
SET PARAMETER min_duration = '5 minutes';
-- How many alarms of each kind are shown as metrics: those that have stood for longest.
SET PARAMETER longest = 50;

CREATE SOURCE velib FROM GBFS (url = $feed, poll = $poll, speed = $speed);
CREATE SOURCE quartiers FROM GEOJSON (url = $quartiers, id = 'c_qu', name = 'l_qu');


-- From observations to alarms --------------------------------------------------------------------------------------

-- What an observation says of each alarm: true raises it, false clears it, null leaves it as it is. A station that
-- cannot be used, or that has nothing to count, has no alarm.
CREATE VIEW judged AS
SELECT
    station_id,
    observed_at AS at,
    CASE
        WHEN NOT (is_installed AND is_renting) OR bikes + docks = 0 OR bikes >= $low + $hysteresis THEN false
        WHEN bikes <= $low THEN true
    END AS empty,
    CASE
        WHEN NOT (is_installed AND is_returning) OR bikes + docks = 0 OR docks >= $low + $hysteresis THEN false
        WHEN docks <= $low THEN true
    END AS full
FROM velib.observations;

-- The moments at which the alarm for a station without bikes is raised or cleared: those that say otherwise than
-- the one before, of those that say something. A station that is first seen without an alarm is no such moment.
CREATE VIEW empty_turns AS
SELECT station_id, at, raised
FROM (
    SELECT station_id, at, empty AS raised, lag(empty) OVER (PARTITION BY station_id ORDER BY at) AS before
    FROM judged
    WHERE empty IS NOT NULL
) AS told
WHERE raised <> coalesce(before, false);

-- The same for a station without docks.
CREATE VIEW full_turns AS
SELECT station_id, at, raised
FROM (
    SELECT station_id, at, "full" AS raised, lag("full") OVER (PARTITION BY station_id ORDER BY at) AS before
    FROM judged
    WHERE "full" IS NOT NULL
) AS told
WHERE raised <> coalesce(before, false);


-- Places -----------------------------------------------------------------------------------------------------------

-- The stations that can have an alarm, each in its area: the quartier that its position lies in or, outside all of
-- them, its commune.
CREATE VIEW places AS
SELECT
    s.station_id,
    s.name,
    s.lat,
    s.lon,
    s.capacity,
    coalesce(q.id, 'commune ' || s.region) AS area_id,
    coalesce(q.name, s.region) AS area
FROM velib.stations s
LEFT JOIN quartiers q ON q.id = quartiers_at(s.lon, s.lat)
WHERE s.capacity > 0;


-- Now --------------------------------------------------------------------------------------------------------------

-- The last turn of each station. One row a station is held for it.
CREATE VIEW last_turn AS
SELECT
    'empty' AS kind,
    station_id,
    last_value(raised ORDER BY at) AS raised,
    max(at) AS since
FROM empty_turns
GROUP BY station_id
UNION ALL
SELECT
    'full' AS kind,
    station_id,
    last_value(raised ORDER BY at) AS raised,
    max(at) AS since
FROM full_turns
GROUP BY station_id;

-- Alarms of stations that the feed still lists. An alarm enters by itself when it has lasted long enough.
CREATE MATERIALIZED VIEW critical_now WITH (key = 'station_id, kind') AS
SELECT
    a.station_id,
    a.kind,
    a.since,
    CASE WHEN a.kind = 'empty' THEN t.bikes ELSE t.docks END = 0 AS nothing_left,
    t.bikes,
    t.docks,
    p.capacity,
    p.name,
    p.lat,
    p.lon,
    p.area_id,
    p.area
FROM last_turn a
JOIN velib.status t ON t.station_id = a.station_id
JOIN places p ON p.station_id = a.station_id
WHERE a.raised
  AND now() >= a.since + INTERVAL $min_duration;

CREATE INDEX ON critical_now (since);
CREATE INDEX ON critical_now (area_id);
COMMENT ON VIEW critical_now IS 'The alarms that stand.';
COMMENT ON COLUMN critical_now.station_id IS 'The id of the station in the feed.';
COMMENT ON COLUMN critical_now.kind IS 'empty: it has run out of bikes, or nearly. full: of free docks.';
COMMENT ON COLUMN critical_now.since IS 'When the alarm was raised: now() - since is how long it has lasted.';
COMMENT ON COLUMN critical_now.nothing_left IS 'There is really no bike (or dock) left now.';
COMMENT ON COLUMN critical_now.bikes IS 'Bikes that can be taken now.';
COMMENT ON COLUMN critical_now.docks IS 'Docks that a bike can be returned to now.';
COMMENT ON COLUMN critical_now.capacity IS 'Docks that were built.';
COMMENT ON COLUMN critical_now.name IS 'The name on the station.';
COMMENT ON COLUMN critical_now.lat IS 'Latitude, degrees.';
COMMENT ON COLUMN critical_now.lon IS 'Longitude, degrees.';
COMMENT ON COLUMN critical_now.area_id IS 'The quartier that it lies in, or its commune outside all of them; null if neither is known.';
COMMENT ON COLUMN critical_now.area IS 'The name of its area.';

-- Shown as metrics, so that an alert can tell of a station that is empty or full for long. The station_id decides
-- between equals, so that the choice is the same whoever computes it.
CREATE MATERIALIZED VIEW critical_longest
WITH (key = 'station_id, kind', metrics = 'since', metrics_name = 'name') AS
SELECT station_id, kind, since, name, area_id, area
FROM (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY since, station_id) AS place
    FROM critical_now
) AS ranked
WHERE place <= $longest;

COMMENT ON VIEW critical_longest IS 'The alarms that have stood for longest.';
COMMENT ON COLUMN critical_longest.station_id IS 'The id of the station in the feed.';
COMMENT ON COLUMN critical_longest.kind IS 'empty: it has run out of bikes, or nearly. full: of free docks.';
COMMENT ON COLUMN critical_longest.since IS 'When the alarm was raised.';
COMMENT ON COLUMN critical_longest.name IS 'The name on the station.';
COMMENT ON COLUMN critical_longest.area_id IS 'The quartier that it lies in, or its commune outside all of them; null if neither is known.';
COMMENT ON COLUMN critical_longest.area IS 'The name of its area.';

-- Areas without an alarm are there with zeros.
CREATE MATERIALIZED VIEW critical_by_area
WITH (key = 'area_id', metrics = 'stations, empty, full', metrics_name = 'area') AS
SELECT
    total.area_id,
    total.area,
    total.stations,
    coalesce(alarms.empty, 0) AS empty,
    coalesce(alarms.full, 0) AS full,
    CAST(coalesce(alarms.empty, 0) AS DOUBLE PRECISION) / total.stations AS share_empty,
    CAST(coalesce(alarms.full, 0) AS DOUBLE PRECISION) / total.stations AS share_full
FROM (
    SELECT area_id, area, count(*) AS stations
    FROM places
    WHERE area_id IS NOT NULL
    GROUP BY area_id, area
) AS total
LEFT JOIN (
    SELECT area_id, count(*) FILTER (WHERE kind = 'empty') AS empty, count(*) FILTER (WHERE kind = 'full') AS full
    FROM critical_now
    GROUP BY area_id
) AS alarms ON alarms.area_id = total.area_id;

COMMENT ON VIEW critical_by_area IS 'How many alarms stand in each area.';
COMMENT ON COLUMN critical_by_area.area_id IS 'A quartier, or a commune outside all of them.';
COMMENT ON COLUMN critical_by_area.area IS 'Its name.';
COMMENT ON COLUMN critical_by_area.stations IS 'Stations in it.';
COMMENT ON COLUMN critical_by_area.empty IS 'Of them, with an alarm for bikes.';
COMMENT ON COLUMN critical_by_area.full IS 'Of them, with an alarm for docks.';
COMMENT ON COLUMN critical_by_area.share_empty IS 'Share of its stations with an alarm for bikes, 0 to 1.';
COMMENT ON COLUMN critical_by_area.share_full IS 'Share of its stations with an alarm for docks.';


-- Before -----------------------------------------------------------------------------------------------------------

-- A turn that clears an alarm, beside the one that raised it, is an alarm that is over.
CREATE VIEW empty_over AS
SELECT station_id, before AS began, at AS ended
FROM (
    SELECT station_id, at, raised, lag(at) OVER (PARTITION BY station_id ORDER BY at) AS before
    FROM empty_turns
) AS turns
WHERE NOT raised;

CREATE VIEW full_over AS
SELECT station_id, before AS began, at AS ended
FROM (
    SELECT station_id, at, raised, lag(at) OVER (PARTITION BY station_id ORDER BY at) AS before
    FROM full_turns
) AS turns
WHERE NOT raised;

-- Rows are written once and stay in PostgreSQL; the engine forgets them after an hour.
CREATE MATERIALIZED VIEW critical_log
WITH (key = 'station_id, kind, began', retain = '1 hour', retain_column = 'ended') AS
SELECT station_id, 'empty' AS kind, began, ended, ended - began AS duration
FROM empty_over
WHERE ended >= began + INTERVAL $min_duration
UNION ALL
SELECT station_id, 'full' AS kind, began, ended, ended - began AS duration
FROM full_over
WHERE ended >= began + INTERVAL $min_duration;

CREATE INDEX ON critical_log (began);
CREATE INDEX ON critical_log (ended);
COMMENT ON VIEW critical_log IS 'The alarms that are over and had stood. Rows are only ever added.';
COMMENT ON COLUMN critical_log.station_id IS 'The id of the station in the feed.';
COMMENT ON COLUMN critical_log.kind IS 'empty: it had run out of bikes, or nearly. full: of free docks.';
COMMENT ON COLUMN critical_log.began IS 'When the alarm was raised.';
COMMENT ON COLUMN critical_log.ended IS 'When it was cleared, or the station closed.';
COMMENT ON COLUMN critical_log.duration IS 'From one to the other.';
