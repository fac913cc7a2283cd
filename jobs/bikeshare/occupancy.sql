-- Occupancy: how full stations and areas are, now and by the hour.
--
--   stations            what each station is and where it lies
--   station_now         how each station is now
--   area_now            the same summed by area, and
--   arrondissement_now    by arrondissement, and
--   commune_now           by commune
--   station_hour        each station by the hour that is over: averages over time, shares of time empty and full
--   area_hour           each area by the hour that is over

-- A GBFS feed: the address of its discovery document, or a path to recorded documents.
SET PARAMETER feed = 'https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole/gbfs.json';
-- How often to ask it. The counts change every minute, whatever its ttl says.
SET PARAMETER poll = '60 s';
-- How many times real time recorded documents are played; empty: as fast as they can be read.
SET PARAMETER speed = '';
-- The areas of the city: GeoJSON polygons with the properties c_qu (id), l_qu (name) and c_ar (number of the
-- arrondissement).
SET PARAMETER quartiers = 'https://opendata.paris.fr/api/explore/v2.1/catalog/datasets/quartier_paris/exports/geojson';
-- The commune of stations that lie in these areas, where the feed names none.
SET PARAMETER city = 'Paris';
-- A station is low with at most this share of its places taken by bikes.
SET PARAMETER low = 0.2;
-- A station is silent when it has not reported for so long. All stations report about once an hour, so that
-- less than two hours would call most of them silent at times.
SET PARAMETER silent_after = '2 hours';
-- Between two snapshots that are further apart, nobody knows how a station was: such time does not count. At
-- most an hour.
SET PARAMETER longest_gap = '20 minutes';
-- An hour is published so long after it began: when it is over, and the first snapshot of the next one is in.
-- '0 seconds': as it goes; each snapshot then writes a row for every station.
SET PARAMETER publish_after = '62 minutes';

CREATE SOURCE velib FROM GBFS (url = $feed, poll = $poll, speed = $speed);
CREATE SOURCE quartiers FROM GEOJSON (url = $quartiers, id = 'c_qu', name = 'l_qu');


-- Stations ---------------------------------------------------------------------------------------------------------

-- Each station once, in its area: the quartier that its position lies in or, outside all of them, its commune.
CREATE MATERIALIZED VIEW stations AS
SELECT
    s.station_id,
    s.code,
    s.name,
    s.lat,
    s.lon,
    s.capacity,
    coalesce(q.id, 'commune ' || s.region) AS area_id,
    coalesce(q.name, s.region) AS area,
    CAST((regexp_match(q.properties, '"c_ar":"?([0-9]{1,4})'))[1] AS INT) AS arrondissement,
    coalesce(s.region, CASE WHEN q.id IS NOT NULL THEN $city END) AS commune
FROM velib.stations s
LEFT JOIN quartiers q ON q.id = quartiers_at(s.lon, s.lat);

CREATE INDEX ON stations (area_id);
COMMENT ON VIEW stations IS 'Each station: what it is and where it lies.';
COMMENT ON COLUMN stations.station_id IS 'The id in the feed.';
COMMENT ON COLUMN stations.code IS 'The number on the station.';
COMMENT ON COLUMN stations.name IS 'The name on the station.';
COMMENT ON COLUMN stations.lat IS 'Latitude, degrees.';
COMMENT ON COLUMN stations.lon IS 'Longitude, degrees.';
COMMENT ON COLUMN stations.capacity IS 'Docks that were built.';
COMMENT ON COLUMN stations.area_id IS 'The quartier that it lies in, or its commune outside all of them; null if neither is known.';
COMMENT ON COLUMN stations.area IS 'The name of its area.';
COMMENT ON COLUMN stations.arrondissement IS 'Number of the arrondissement; null outside the city.';
COMMENT ON COLUMN stations.commune IS 'The municipality.';


-- Now --------------------------------------------------------------------------------------------------------------

-- The stations that have been silent for too long. A row enters by itself when its time has come: no new
-- document is needed.
CREATE VIEW silent AS
SELECT station_id
FROM velib.status
WHERE now() >= last_reported + INTERVAL $silent_after;

-- A station that the feed counts but does not describe is here without name and place.
CREATE MATERIALIZED VIEW station_now AS
SELECT
    t.station_id,
    s.code,
    s.name,
    s.lat,
    s.lon,
    s.area_id,
    s.area,
    s.arrondissement,
    s.commune,
    s.capacity,
    t.bikes,
    t.mechanical,
    t.ebikes,
    t.docks,
    -- Of the places that work: bikes + docks is less than the capacity in half of the stations.
    CAST(t.bikes AS DOUBLE PRECISION) / nullif(t.bikes + t.docks, 0) AS rate,
    CASE
        WHEN NOT (t.is_installed AND t.is_renting) THEN 'closed'
        WHEN t.bikes IS NULL OR t.docks IS NULL THEN 'unknown'
        WHEN t.bikes + t.docks = 0 THEN 'closed'
        WHEN t.bikes = 0 THEN 'empty'
        WHEN t.docks = 0 THEN 'full'
        WHEN CAST(t.bikes AS DOUBLE PRECISION) / (t.bikes + t.docks) <= $low THEN 'low'
        ELSE 'ok'
    END AS state,
    t.last_reported AS reported_at,
    silent.station_id IS NOT NULL AS is_silent
FROM velib.status t
LEFT JOIN stations s ON s.station_id = t.station_id
LEFT JOIN silent ON silent.station_id = t.station_id;

CREATE INDEX ON station_now (area_id);
CREATE INDEX ON station_now (state);
COMMENT ON VIEW station_now IS 'How each station is now.';
COMMENT ON COLUMN station_now.station_id IS 'The id in the feed.';
COMMENT ON COLUMN station_now.code IS 'The number on the station.';
COMMENT ON COLUMN station_now.name IS 'The name on the station.';
COMMENT ON COLUMN station_now.lat IS 'Latitude, degrees.';
COMMENT ON COLUMN station_now.lon IS 'Longitude, degrees.';
COMMENT ON COLUMN station_now.area_id IS 'The quartier that it lies in, or its commune outside all of them; null if neither is known.';
COMMENT ON COLUMN station_now.area IS 'The name of its area.';
COMMENT ON COLUMN station_now.arrondissement IS 'Number of the arrondissement; null outside the city.';
COMMENT ON COLUMN station_now.commune IS 'The municipality.';
COMMENT ON COLUMN station_now.capacity IS 'Docks that were built.';
COMMENT ON COLUMN station_now.bikes IS 'Bikes that can be taken.';
COMMENT ON COLUMN station_now.mechanical IS 'Of them, without a motor.';
COMMENT ON COLUMN station_now.ebikes IS 'Of them, with a motor.';
COMMENT ON COLUMN station_now.docks IS 'Docks that a bike can be returned to.';
COMMENT ON COLUMN station_now.rate IS 'Bikes by bikes and docks, 0 to 1; null if there is neither.';
COMMENT ON COLUMN station_now.state IS 'closed (not installed, not renting, or without any working place), unknown (no counts), empty, full, low (few bikes), ok.';
COMMENT ON COLUMN station_now.reported_at IS 'When the station last spoke with the operator, as the feed says.';
COMMENT ON COLUMN station_now.is_silent IS 'It has not reported for long: what is said of it may be old.';

-- What is summed: a closed station offers nothing.
CREATE VIEW offered AS
SELECT
    area_id,
    area,
    arrondissement,
    commune,
    state,
    is_silent,
    CASE WHEN state <> 'closed' THEN bikes END AS bikes,
    CASE WHEN state <> 'closed' THEN mechanical END AS mechanical,
    CASE WHEN state <> 'closed' THEN ebikes END AS ebikes,
    CASE WHEN state <> 'closed' THEN docks END AS docks
FROM station_now;

-- By area; the next two are the same by other columns. It is shown as metrics, for alerts on areas short of bikes.
CREATE MATERIALIZED VIEW area_now
WITH (key = 'area_id', metrics = 'bikes, docks, rate', metrics_name = 'area') AS
SELECT
    area_id,
    area,
    arrondissement,
    count(*) AS stations,
    sum(bikes) AS bikes,
    sum(mechanical) AS mechanical,
    sum(ebikes) AS ebikes,
    sum(docks) AS docks,
    CAST(sum(bikes) AS DOUBLE PRECISION) / nullif(sum(bikes) + sum(docks), 0) AS rate,
    count(*) FILTER (WHERE state = 'closed') AS closed,
    count(*) FILTER (WHERE state = 'empty') AS empty,
    count(*) FILTER (WHERE state = 'full') AS full,
    count(*) FILTER (WHERE is_silent) AS silent
FROM offered
WHERE area_id IS NOT NULL
GROUP BY area_id, area, arrondissement;
COMMENT ON VIEW area_now IS 'How each area is now: sums over its open stations.';
COMMENT ON COLUMN area_now.area_id IS 'A quartier, or a commune outside all of them.';
COMMENT ON COLUMN area_now.area IS 'Its name.';
COMMENT ON COLUMN area_now.arrondissement IS 'Number of its arrondissement; null outside the city.';
COMMENT ON COLUMN area_now.stations IS 'Stations in it, open or not.';
COMMENT ON COLUMN area_now.bikes IS 'Bikes that can be taken.';
COMMENT ON COLUMN area_now.mechanical IS 'Of them, without a motor.';
COMMENT ON COLUMN area_now.ebikes IS 'Of them, with a motor.';
COMMENT ON COLUMN area_now.docks IS 'Docks that a bike can be returned to.';
COMMENT ON COLUMN area_now.rate IS 'Bikes by bikes and docks, 0 to 1; null if there is neither.';
COMMENT ON COLUMN area_now.closed IS 'Stations that are closed.';
COMMENT ON COLUMN area_now.empty IS 'Open stations without a bike.';
COMMENT ON COLUMN area_now.full IS 'Open stations without a free dock.';
COMMENT ON COLUMN area_now.silent IS 'Stations that have not reported for long.';


CREATE MATERIALIZED VIEW arrondissement_now AS
SELECT
    arrondissement,
    count(*) AS stations,
    sum(bikes) AS bikes,
    sum(mechanical) AS mechanical,
    sum(ebikes) AS ebikes,
    sum(docks) AS docks,
    CAST(sum(bikes) AS DOUBLE PRECISION) / nullif(sum(bikes) + sum(docks), 0) AS rate,
    count(*) FILTER (WHERE state = 'closed') AS closed,
    count(*) FILTER (WHERE state = 'empty') AS empty,
    count(*) FILTER (WHERE state = 'full') AS full,
    count(*) FILTER (WHERE is_silent) AS silent
FROM offered
WHERE arrondissement IS NOT NULL
GROUP BY arrondissement;
COMMENT ON VIEW arrondissement_now IS 'How each arrondissement is now: sums over its open stations.';
COMMENT ON COLUMN arrondissement_now.arrondissement IS 'Its number.';
COMMENT ON COLUMN arrondissement_now.stations IS 'Stations in it, open or not.';
COMMENT ON COLUMN arrondissement_now.bikes IS 'Bikes that can be taken.';
COMMENT ON COLUMN arrondissement_now.mechanical IS 'Of them, without a motor.';
COMMENT ON COLUMN arrondissement_now.ebikes IS 'Of them, with a motor.';
COMMENT ON COLUMN arrondissement_now.docks IS 'Docks that a bike can be returned to.';
COMMENT ON COLUMN arrondissement_now.rate IS 'Bikes by bikes and docks, 0 to 1; null if there is neither.';
COMMENT ON COLUMN arrondissement_now.closed IS 'Stations that are closed.';
COMMENT ON COLUMN arrondissement_now.empty IS 'Open stations without a bike.';
COMMENT ON COLUMN arrondissement_now.full IS 'Open stations without a free dock.';
COMMENT ON COLUMN arrondissement_now.silent IS 'Stations that have not reported for long.';


CREATE MATERIALIZED VIEW commune_now AS
SELECT
    commune,
    count(*) AS stations,
    sum(bikes) AS bikes,
    sum(mechanical) AS mechanical,
    sum(ebikes) AS ebikes,
    sum(docks) AS docks,
    CAST(sum(bikes) AS DOUBLE PRECISION) / nullif(sum(bikes) + sum(docks), 0) AS rate,
    count(*) FILTER (WHERE state = 'closed') AS closed,
    count(*) FILTER (WHERE state = 'empty') AS empty,
    count(*) FILTER (WHERE state = 'full') AS full,
    count(*) FILTER (WHERE is_silent) AS silent
FROM offered
WHERE commune IS NOT NULL
GROUP BY commune;
COMMENT ON VIEW commune_now IS 'How each commune is now: sums over its open stations.';
COMMENT ON COLUMN commune_now.commune IS 'Its name.';
COMMENT ON COLUMN commune_now.stations IS 'Stations in it, open or not.';
COMMENT ON COLUMN commune_now.bikes IS 'Bikes that can be taken.';
COMMENT ON COLUMN commune_now.mechanical IS 'Of them, without a motor.';
COMMENT ON COLUMN commune_now.ebikes IS 'Of them, with a motor.';
COMMENT ON COLUMN commune_now.docks IS 'Docks that a bike can be returned to.';
COMMENT ON COLUMN commune_now.rate IS 'Bikes by bikes and docks, 0 to 1; null if there is neither.';
COMMENT ON COLUMN commune_now.closed IS 'Stations that are closed.';
COMMENT ON COLUMN commune_now.empty IS 'Open stations without a bike.';
COMMENT ON COLUMN commune_now.full IS 'Open stations without a free dock.';
COMMENT ON COLUMN commune_now.silent IS 'Stations that have not reported for long.';



-- By the hour ------------------------------------------------------------------------------------------------------

-- Each observation beside the one before it, which held until then. One row a station is held for it.
CREATE VIEW spans AS
SELECT
    station_id,
    observed_at AS until,
    bikes AS bikes_after,
    lag(observed_at) OVER before AS since,
    lag(bikes) OVER before AS bikes,
    lag(docks) OVER before AS docks,
    lag(is_installed AND is_renting) OVER before AS is_open
FROM velib.observations
WINDOW before AS (PARTITION BY station_id ORDER BY observed_at);

-- What each observation adds to the hour that it is in: itself, and the time since the one before it or since
-- the hour began. A gap is no time.
CREATE VIEW span_ends AS
SELECT
    station_id,
    date_trunc('hour', until) AS hour,
    CASE
        WHEN until - since <= INTERVAL $longest_gap
        THEN extract(epoch FROM until) - extract(epoch FROM greatest(since, date_trunc('hour', until)))
        ELSE 0
    END AS seconds,
    bikes,
    docks,
    is_open,
    bikes_after AS seen
FROM spans;

-- What it adds to the hour before, if the one before it was there: the rest of that hour.
CREATE VIEW span_starts AS
SELECT
    station_id,
    date_trunc('hour', since) AS hour,
    extract(epoch FROM date_trunc('hour', until)) - extract(epoch FROM since) AS seconds,
    bikes,
    docks,
    is_open,
    NULL AS seen
FROM spans
WHERE until - since <= INTERVAL $longest_gap
  AND date_trunc('hour', since) < date_trunc('hour', until);

-- Averages over time: each count weighs as long as it held. One state a station and hour is held, two days long.
CREATE VIEW hours AS
SELECT
    station_id,
    hour,
    sum(bikes * seconds) / nullif(sum(seconds) FILTER (WHERE bikes IS NOT NULL), 0) AS bikes,
    sum(docks * seconds) / nullif(sum(seconds) FILTER (WHERE docks IS NOT NULL), 0) AS docks,
    sum(bikes * seconds / (bikes + docks)) FILTER (WHERE bikes + docks > 0)
        / nullif(sum(seconds) FILTER (WHERE bikes + docks > 0), 0) AS rate,
    min(seen) AS bikes_min,
    max(seen) AS bikes_max,
    sum(CASE WHEN bikes = 0 AND is_open THEN seconds ELSE 0 END) / nullif(sum(seconds), 0) AS share_empty,
    sum(CASE WHEN docks = 0 AND is_open THEN seconds ELSE 0 END) / nullif(sum(seconds), 0) AS share_full,
    sum(CASE WHEN is_open THEN 0 ELSE seconds END) / nullif(sum(seconds), 0) AS share_closed,
    sum(seconds) AS seconds,
    count(seen) AS snapshots
FROM (SELECT * FROM span_ends UNION ALL SELECT * FROM span_starts) AS parts
GROUP BY station_id, hour;

CREATE MATERIALIZED VIEW station_hour WITH (retain = '2 days', retain_column = 'hour') AS
SELECT *
FROM hours
WHERE now() >= hour + INTERVAL $publish_after;

CREATE INDEX ON station_hour (hour);
COMMENT ON VIEW station_hour IS 'Each station by the hour. An observation holds until the next one of its station; gaps do not count.';
COMMENT ON COLUMN station_hour.station_id IS 'The id in the feed.';
COMMENT ON COLUMN station_hour.hour IS 'When the hour began.';
COMMENT ON COLUMN station_hour.bikes IS 'Bikes that could be taken, on average over the time.';
COMMENT ON COLUMN station_hour.docks IS 'Free docks, on average over the time.';
COMMENT ON COLUMN station_hour.rate IS 'Bikes by bikes and docks, on average over the time.';
COMMENT ON COLUMN station_hour.bikes_min IS 'Fewest bikes of a snapshot in the hour.';
COMMENT ON COLUMN station_hour.bikes_max IS 'Most bikes of a snapshot in the hour.';
COMMENT ON COLUMN station_hour.share_empty IS 'Share of the time in which it was open without a bike, 0 to 1.';
COMMENT ON COLUMN station_hour.share_full IS 'Share of the time in which it was open without a free dock.';
COMMENT ON COLUMN station_hour.share_closed IS 'Share of the time in which it was closed.';
COMMENT ON COLUMN station_hour.seconds IS 'How much of the hour is known; averages and shares are of this time.';
COMMENT ON COLUMN station_hour.snapshots IS 'Snapshots in the hour that counted its bikes.';

-- The stations of an area side by side. The sum of their averages is the average of their sum. Only stations that are
-- still listed: where they lie is not known of others.
CREATE MATERIALIZED VIEW area_hour WITH (key = 'area_id, hour', retain = '2 days', retain_column = 'hour') AS
SELECT
    s.area_id,
    h.hour,
    h.hour AT TIME ZONE 'Europe/Paris' AS local_hour,
    s.area,
    count(*) AS stations,
    sum(h.bikes) AS bikes,
    sum(h.docks) AS docks,
    sum(h.bikes) / nullif(sum(h.bikes + h.docks), 0) AS rate,
    avg(h.share_empty) AS share_empty,
    avg(h.share_full) AS share_full,
    avg(h.share_closed) AS share_closed,
    sum(h.snapshots) AS snapshots
FROM station_hour h
JOIN stations s ON s.station_id = h.station_id
WHERE s.area_id IS NOT NULL AND h.seconds > 0
GROUP BY s.area_id, s.area, h.hour;

CREATE INDEX ON area_hour (hour);
COMMENT ON VIEW area_hour IS 'Each area by the hour: its stations of which something is known.';
COMMENT ON COLUMN area_hour.area_id IS 'A quartier, or a commune outside all of them.';
COMMENT ON COLUMN area_hour.hour IS 'When the hour began.';
COMMENT ON COLUMN area_hour.local_hour IS 'The same on the clocks of Paris. In the night in which they go back, two hours have the same name.';
COMMENT ON COLUMN area_hour.area IS 'Its name.';
COMMENT ON COLUMN area_hour.stations IS 'Stations of which something is known in the hour.';
COMMENT ON COLUMN area_hour.bikes IS 'Bikes that could be taken, on average over the time.';
COMMENT ON COLUMN area_hour.docks IS 'Free docks, on average over the time.';
COMMENT ON COLUMN area_hour.rate IS 'Bikes by bikes and docks.';
COMMENT ON COLUMN area_hour.share_empty IS 'Share of the time in which a station was open without a bike, on average over the stations.';
COMMENT ON COLUMN area_hour.share_full IS 'Share of the time in which a station was open without a free dock.';
COMMENT ON COLUMN area_hour.share_closed IS 'Share of the time in which a station was closed.';
COMMENT ON COLUMN area_hour.snapshots IS 'Snapshots that counted the bikes of its stations.';
