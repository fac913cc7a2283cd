-- Trends: where counts are going, and how they compare with before.
--
--   station_trend    each station: its slope, when it will be empty or full, changes since 15 and 60 minutes ago,
--                    yesterday and a week ago
--   area_trend       the changes summed by area
--   fastest          the stations that empty and fill the fastest
--   area_profile     what each area is like at each hour of the week, over all of history but the hour that runs
--   station_hour     the mean of each station by the hour that is over, which yesterday and a week ago are taken from

-- A GBFS feed: the address of its discovery document, or a path to recorded documents.
SET PARAMETER feed = 'https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole/gbfs.json';
-- How often to ask it. The counts change every minute, whatever its ttl says.
SET PARAMETER poll = '60 s';
-- How many times real time recorded documents are played; empty: as fast as they can be read.
SET PARAMETER speed = '';
-- The areas of the city: GeoJSON polygons with the properties c_qu (id) and l_qu (name).
SET PARAMETER quartiers = 'https://opendata.paris.fr/api/explore/v2.1/catalog/datasets/quartier_paris/exports/geojson';
-- A station that gains or loses fewer bikes an hour is steady: it is on its way to nothing.
SET PARAMETER steady = 1.0;
-- A count that nobody has confirmed for so long is not known any more.
SET PARAMETER longest_gap = '20 minutes';
-- The counts of an hour go into means so long after it began: when it is over. '0 seconds': as they come; each
-- snapshot then writes a row for every station.
SET PARAMETER publish_after = '1 hour';
-- How many stations the ranking has in each direction.
SET PARAMETER places = 20;

CREATE SOURCE velib FROM GBFS (url = $feed, poll = $poll, speed = $speed);
CREATE SOURCE quartiers FROM GEOJSON (url = $quartiers, id = 'c_qu', name = 'l_qu');

-- Each station in its area: the quartier that its position lies in or, outside all of them, its commune.
CREATE VIEW stations AS
SELECT
    s.station_id,
    s.name,
    coalesce(q.id, 'commune ' || s.region) AS area_id,
    coalesce(q.name, s.region) AS area
FROM velib.stations s
LEFT JOIN quartiers q ON q.id = quartiers_at(s.lon, s.lat);

-- What was counted, with the time in hours.
CREATE VIEW counts AS
SELECT station_id, observed_at, bikes, docks, extract(epoch FROM observed_at) / 3600 AS hours
FROM velib.observations
WHERE bikes IS NOT NULL;


-- By the hour ------------------------------------------------------------------------------------------------------

CREATE VIEW past AS
SELECT *
FROM counts
WHERE now() >= date_trunc('hour', observed_at) + INTERVAL $publish_after;

-- occupancy.sql weighs counts by the time they held; here the mean of the snapshots is near enough, and needs half
-- the memory. Held for eight days, so that the same hour a week ago is there to its end.
CREATE MATERIALIZED VIEW station_hour WITH (retain = '8 days', retain_column = 'hour') AS
SELECT station_id, date_trunc('hour', observed_at) AS hour, avg(bikes) AS bikes, count(*) AS snapshots
FROM past
GROUP BY station_id, date_trunc('hour', observed_at);

CREATE INDEX ON station_hour (hour);
COMMENT ON VIEW station_hour IS 'The mean of each station by the hour, once the hour is over.';
COMMENT ON COLUMN station_hour.station_id IS 'The id of the station in the feed.';
COMMENT ON COLUMN station_hour.hour IS 'When the hour began.';
COMMENT ON COLUMN station_hour.bikes IS 'Bikes that could be taken, on average over the snapshots of the hour.';
COMMENT ON COLUMN station_hour.snapshots IS 'How many there were.';


-- Now and before ---------------------------------------------------------------------------------------------------

-- Each count with the time in which it was in force: until the next one.
CREATE VIEW spans AS
SELECT
    station_id,
    lag(bikes) OVER before AS bikes,
    lag(observed_at) OVER before AS since,
    observed_at AS until
FROM counts
WINDOW before AS (PARTITION BY station_id ORDER BY observed_at);

-- All that the trend of a station is made of, and which part of it each row is: rows enter and leave as time passes.
-- A single grouping then holds one state a station, where a join for each part would hold its rows twice.
CREATE VIEW parts AS
SELECT station_id, 'last 15' AS part, bikes, hours
FROM counts
WHERE observed_at > now() - INTERVAL '15 minutes'
UNION ALL
SELECT station_id, 'last 60' AS part, bikes, hours
FROM counts
WHERE observed_at > now() - INTERVAL '60 minutes'
UNION ALL
-- one row a station: the count that was in force then
SELECT station_id, '15 ago' AS part, bikes, NULL AS hours
FROM spans
WHERE until - since <= INTERVAL $longest_gap
  AND since <= now() - INTERVAL '15 minutes'
  AND until > now() - INTERVAL '15 minutes'
UNION ALL
SELECT station_id, '60 ago' AS part, bikes, NULL AS hours
FROM spans
WHERE until - since <= INTERVAL $longest_gap
  AND since <= now() - INTERVAL '60 minutes'
  AND until > now() - INTERVAL '60 minutes'
UNION ALL
-- one row a station: the mean of the hour in which it was this time then
SELECT station_id, 'yesterday' AS part, bikes, NULL AS hours
FROM station_hour
WHERE hour <= now() - INTERVAL '24 hours'
  AND hour > now() - INTERVAL '25 hours'
UNION ALL
SELECT station_id, 'week ago' AS part, bikes, NULL AS hours
FROM station_hour
WHERE hour <= now() - INTERVAL '168 hours'
  AND hour > now() - INTERVAL '169 hours';

CREATE VIEW trends AS
SELECT
    station_id,
    regr_slope(bikes, hours) FILTER (WHERE part = 'last 15') AS slope_15,
    regr_slope(bikes, hours) FILTER (WHERE part = 'last 60') AS slope_60,
    -- sums of one value
    sum(bikes) FILTER (WHERE part = '15 ago') AS ago_15,
    sum(bikes) FILTER (WHERE part = '60 ago') AS ago_60,
    sum(bikes) FILTER (WHERE part = 'yesterday') AS ago_day,
    sum(bikes) FILTER (WHERE part = 'week ago') AS ago_week
FROM parts
GROUP BY station_id;

CREATE MATERIALIZED VIEW station_trend AS
SELECT
    t.station_id,
    s.name,
    s.area_id,
    s.area,
    t.bikes,
    t.docks,
    r.slope_15,
    r.slope_60,
    CASE WHEN r.slope_15 <= - $steady THEN t.bikes / - r.slope_15 * 60 END AS minutes_to_empty,
    CASE WHEN r.slope_15 >= $steady THEN t.docks / r.slope_15 * 60 END AS minutes_to_full,
    t.bikes - r.ago_15 AS change_15,
    t.bikes - r.ago_60 AS change_60,
    t.bikes - r.ago_day AS change_day,
    t.bikes - r.ago_week AS change_week
FROM velib.status t
LEFT JOIN stations s ON s.station_id = t.station_id
-- Last: most of it moves with each snapshot.
LEFT JOIN trends r ON r.station_id = t.station_id;

CREATE INDEX ON station_trend (area_id);
COMMENT ON VIEW station_trend IS 'Where the count of each station is going, and how it compares with before.';
COMMENT ON COLUMN station_trend.station_id IS 'The id in the feed.';
COMMENT ON COLUMN station_trend.name IS 'The name on the station.';
COMMENT ON COLUMN station_trend.area_id IS 'The quartier that it lies in, or its commune outside all of them; null if neither is known.';
COMMENT ON COLUMN station_trend.area IS 'The name of its area.';
COMMENT ON COLUMN station_trend.bikes IS 'Bikes that can be taken now.';
COMMENT ON COLUMN station_trend.docks IS 'Docks that a bike can be returned to now.';
COMMENT ON COLUMN station_trend.slope_15 IS 'Bikes an hour, least squares over the counts of the last 15 minutes; null with fewer than two.';
COMMENT ON COLUMN station_trend.slope_60 IS 'Bikes an hour, over the last 60 minutes.';
COMMENT ON COLUMN station_trend.minutes_to_empty IS 'When there will be no bike left if it goes on as in the last 15 minutes; null if it does not lose bikes.';
COMMENT ON COLUMN station_trend.minutes_to_full IS 'When there will be no dock left; null if it does not gain bikes.';
COMMENT ON COLUMN station_trend.change_15 IS 'Bikes more than 15 minutes ago; null if that is not known.';
COMMENT ON COLUMN station_trend.change_60 IS 'Bikes more than 60 minutes ago.';
COMMENT ON COLUMN station_trend.change_day IS 'Bikes more than the mean of the hour that was 24 hours ago.';
COMMENT ON COLUMN station_trend.change_week IS 'Bikes more than the mean of the hour that was 7 days ago.';

CREATE MATERIALIZED VIEW area_trend WITH (key = 'area_id') AS
SELECT
    area_id,
    area,
    sum(bikes) AS bikes,
    sum(slope_15) AS slope_15,
    sum(slope_60) AS slope_60,
    sum(change_15) AS change_15,
    sum(change_60) AS change_60,
    sum(change_day) AS change_day,
    sum(change_week) AS change_week
FROM station_trend
WHERE area_id IS NOT NULL
GROUP BY area_id, area;

COMMENT ON VIEW area_trend IS 'Where the count of each area is going: sums over its stations, each where it is known.';
COMMENT ON COLUMN area_trend.area_id IS 'A quartier, or a commune outside all of them.';
COMMENT ON COLUMN area_trend.area IS 'Its name.';
COMMENT ON COLUMN area_trend.bikes IS 'Bikes that can be taken now.';
COMMENT ON COLUMN area_trend.slope_15 IS 'Bikes an hour, over the last 15 minutes.';
COMMENT ON COLUMN area_trend.slope_60 IS 'Bikes an hour, over the last 60 minutes.';
COMMENT ON COLUMN area_trend.change_15 IS 'Bikes more than 15 minutes ago.';
COMMENT ON COLUMN area_trend.change_60 IS 'Bikes more than 60 minutes ago.';
COMMENT ON COLUMN area_trend.change_day IS 'Bikes more than in the hour that was 24 hours ago.';
COMMENT ON COLUMN area_trend.change_week IS 'Bikes more than in the hour that was 7 days ago.';

-- The station_id decides between equals, so that the ranking is the same whoever computes it.
CREATE MATERIALIZED VIEW fastest WITH (key = 'direction, place') AS
SELECT direction, CAST(place AS BIGINT) AS place, station_id, name, area_id, area, slope_15, bikes, docks, minutes
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY direction ORDER BY abs(slope_15) DESC, station_id) AS place
    FROM (
        SELECT
            CASE WHEN slope_15 < 0 THEN 'emptying' ELSE 'filling' END AS direction,
            station_id,
            name,
            area_id,
            area,
            slope_15,
            bikes,
            docks,
            coalesce(minutes_to_empty, minutes_to_full) AS minutes
        FROM station_trend
        WHERE minutes_to_empty IS NOT NULL OR minutes_to_full IS NOT NULL
    ) AS moving
) AS ranked
WHERE place <= $places;

COMMENT ON VIEW fastest IS 'The stations that empty and fill the fastest, by the slope of the last 15 minutes.';
COMMENT ON COLUMN fastest.direction IS 'emptying or filling.';
COMMENT ON COLUMN fastest.place IS 'From 1, the fastest.';
COMMENT ON COLUMN fastest.station_id IS 'The id of the station in the feed.';
COMMENT ON COLUMN fastest.name IS 'The name on the station.';
COMMENT ON COLUMN fastest.area_id IS 'The quartier that it lies in, or its commune outside all of them; null if neither is known.';
COMMENT ON COLUMN fastest.area IS 'The name of its area.';
COMMENT ON COLUMN fastest.slope_15 IS 'Bikes an hour.';
COMMENT ON COLUMN fastest.bikes IS 'Bikes that can be taken now.';
COMMENT ON COLUMN fastest.docks IS 'Docks that a bike can be returned to now.';
COMMENT ON COLUMN fastest.minutes IS 'When it will be empty (or full) if it goes on so.';


-- The week ---------------------------------------------------------------------------------------------------------

-- On the clocks of Paris. A station has 168 hours in a week, however long the history: one state each is held.
CREATE VIEW station_profile AS
SELECT
    station_id,
    extract(isodow FROM observed_at AT TIME ZONE 'Europe/Paris') AS weekday,
    extract(hour FROM observed_at AT TIME ZONE 'Europe/Paris') AS hour,
    avg(bikes) AS bikes,
    avg(docks) AS docks,
    count(*) AS snapshots
FROM past
GROUP BY
    station_id,
    extract(isodow FROM observed_at AT TIME ZONE 'Europe/Paris'),
    extract(hour FROM observed_at AT TIME ZONE 'Europe/Paris');

-- The sum of the stations' means, of the stations that are there now.
CREATE MATERIALIZED VIEW area_profile WITH (key = 'area_id, weekday, hour') AS
SELECT
    s.area_id,
    p.weekday,
    p.hour,
    s.area,
    count(*) AS stations,
    sum(p.bikes) AS bikes,
    sum(p.docks) AS docks,
    sum(p.bikes) / nullif(sum(p.bikes + p.docks), 0) AS rate,
    sum(p.snapshots) AS snapshots
FROM station_profile p
JOIN stations s ON s.station_id = p.station_id
WHERE s.area_id IS NOT NULL
GROUP BY s.area_id, s.area, p.weekday, p.hour;

COMMENT ON VIEW area_profile IS 'What each area is like at each hour of the week, on average over all of history, without the hour that runs.';
COMMENT ON COLUMN area_profile.area_id IS 'A quartier, or a commune outside all of them.';
COMMENT ON COLUMN area_profile.weekday IS '1, Monday, to 7, Sunday, in Paris.';
COMMENT ON COLUMN area_profile.hour IS '0 to 23, on the clocks of Paris.';
COMMENT ON COLUMN area_profile.area IS 'Its name.';
COMMENT ON COLUMN area_profile.stations IS 'Stations that were ever counted at this hour of the week and are still there.';
COMMENT ON COLUMN area_profile.bikes IS 'Bikes that can be taken, summed over the means of the stations.';
COMMENT ON COLUMN area_profile.docks IS 'Free docks, summed over the means of the stations.';
COMMENT ON COLUMN area_profile.rate IS 'Bikes by bikes and docks.';
COMMENT ON COLUMN area_profile.snapshots IS 'Counts that went into the means.';
