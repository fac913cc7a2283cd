-- Query 21, add channel id: the bids whose channel has a number, by its name or in the address.

SET PARAMETER events = 1000000;
SET PARAMETER seed = 1;

CREATE SOURCE nexmark FROM NEXMARK (events = $events, seed = $seed);

CREATE VIEW q21 AS
SELECT
    auction, bidder, price, channel,
    CASE
        WHEN lower(channel) = 'apple' THEN '0'
        WHEN lower(channel) = 'google' THEN '1'
        WHEN lower(channel) = 'facebook' THEN '2'
        WHEN lower(channel) = 'baidu' THEN '3'
        ELSE (regexp_match(url, '(&|^)channel_id=([^&]*)'))[2]
    END AS channel_id
FROM nexmark.bid
WHERE
    (regexp_match(url, '(&|^)channel_id=([^&]*)'))[2] IS NOT NULL
    OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu');

CREATE MATERIALIZED VIEW q21_sums AS
SELECT
    count(*) AS rows,
    sum(auction) AS auction,
    sum(bidder) AS bidder,
    sum(price) AS price,
    sum(length(channel)) AS channel,
    sum(length(channel_id)) AS channel_id
FROM q21;
