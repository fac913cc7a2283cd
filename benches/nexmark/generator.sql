-- What generating costs: of all the events, only the people are counted.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE MATERIALIZED VIEW generator AS
SELECT count(*) AS rows
FROM nexmark.person;
