-- What a recorded feed says, as it is: PostgreSQL answers from these tables what the other jobs answer.

SET PARAMETER feed = 'recorded/*.json';
SET PARAMETER quartiers = 'quartiers.geojson';

CREATE SOURCE velib FROM GBFS (url = $feed);
CREATE SOURCE quartiers FROM GEOJSON (url = $quartiers, id = 'c_qu', name = 'l_qu');

-- Only because a recording ends may this be kept whole.
CREATE MATERIALIZED VIEW observations AS SELECT * FROM velib.observations;
CREATE MATERIALIZED VIEW status AS SELECT * FROM velib.status;
CREATE MATERIALIZED VIEW stations AS SELECT *, quartiers_at(lon, lat) AS quartier FROM velib.stations;
CREATE MATERIALIZED VIEW quartiers_listed AS SELECT * FROM quartiers;
