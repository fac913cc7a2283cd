-- Query 3, local item suggestion: who sells in OR, ID or CA in category 10, and in which auctions?

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE MATERIALIZED VIEW q3 AS
SELECT p.name, p.city, p.state, a.id
FROM nexmark.auction a
JOIN nexmark.person p ON a.seller = p.id
WHERE a.category = 10 AND (p.state = 'OR' OR p.state = 'ID' OR p.state = 'CA');
