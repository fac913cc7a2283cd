-- What the queries call: the time of the last snapshot, which is now() to a job, and the alarms.

CREATE INDEX ON raw.observations (station_id, observed_at);
ANALYZE;

CREATE FUNCTION snapshot_time() RETURNS timestamptz LANGUAGE sql STABLE AS
'SELECT max(observed_at) FROM raw.observations';

CREATE FUNCTION alarms() RETURNS TABLE (station_id text, kind text, began timestamptz, ended timestamptz, duration interval)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    seen record;
    before text;
    usable boolean;
    left_over bigint;
BEGIN
    FOREACH kind IN ARRAY ARRAY['empty', 'full'] LOOP
        before := NULL;
        began := NULL;
        FOR seen IN SELECT * FROM raw.observations o ORDER BY o.station_id, o.observed_at LOOP
            IF seen.station_id IS DISTINCT FROM before THEN
                IF began IS NOT NULL THEN
                    station_id := before; ended := NULL; duration := NULL;
                    RETURN NEXT;
                END IF;
                began := NULL;
                before := seen.station_id;
            END IF;
            usable := seen.is_installed AND seen.bikes + seen.docks > 0
                AND CASE kind WHEN 'empty' THEN seen.is_renting ELSE seen.is_returning END;
            left_over := CASE kind WHEN 'empty' THEN seen.bikes ELSE seen.docks END;
            IF began IS NULL AND usable AND left_over <= 1 THEN
                began := seen.observed_at;
            ELSIF began IS NOT NULL AND (NOT usable OR left_over >= 3) THEN
                station_id := before; ended := seen.observed_at; duration := ended - began;
                RETURN NEXT;
                began := NULL;
            END IF;
        END LOOP;
        IF began IS NOT NULL THEN
            station_id := before; ended := NULL; duration := NULL;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;
