ALTER TABLE velib.cluster
    ADD COLUMN process   uuid UNIQUE,
    ADD COLUMN mesh      text,
    ADD COLUMN joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN ended     bigint NOT NULL DEFAULT 0,
    ADD COLUMN leaving   boolean NOT NULL DEFAULT false,
    ADD COLUMN proof     bytea,
    -- A row is written several times a second: room for its next versions beside it.
    SET (fillfactor = 20);
COMMENT ON COLUMN velib.cluster.address IS 'Where its API is reached.';
COMMENT ON COLUMN velib.cluster.index IS 'Its place in its generation, 0 leads; none: it waits for the next one.';
COMMENT ON COLUMN velib.cluster.process IS 'Which process this is: made when it starts, never used again.';
COMMENT ON COLUMN velib.cluster.mesh IS 'Where the other processes reach it.';
COMMENT ON COLUMN velib.cluster.joined_at IS 'When it came, or was heard of again after a silence.';
COMMENT ON COLUMN velib.cluster.ended IS 'Generations up to this one are over for it.';
COMMENT ON COLUMN velib.cluster.leaving IS 'It has been told to stop: the next generation is formed without it.';
COMMENT ON COLUMN velib.cluster.proof IS 'Shows to those who know the secret of the cluster that this process knows it too.';

CREATE TABLE velib.membership (
    sole        boolean PRIMARY KEY DEFAULT true CHECK (sole),
    leader      uuid,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    wanted      integer CHECK (wanted > 0),
    generation  bigint NOT NULL DEFAULT 0,
    members     uuid[] NOT NULL DEFAULT '{}',
    addresses   text[] NOT NULL DEFAULT '{}',
    decided_at  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO velib.membership DEFAULT VALUES;
COMMENT ON TABLE velib.membership IS 'Who leads the cluster, and which processes are to compute together: one row.';
COMMENT ON COLUMN velib.membership.sole IS 'There is one row.';
COMMENT ON COLUMN velib.membership.leader IS 'The process that decides on generations; none: nobody has since one took its leave.';
COMMENT ON COLUMN velib.membership.lease_until IS 'After this instant another process may take the lead, by the clock of the database.';
COMMENT ON COLUMN velib.membership.wanted IS 'How many processes are to compute (velib scale); none: all.';
COMMENT ON COLUMN velib.membership.generation IS 'The newest generation; 0: there was none yet.';
COMMENT ON COLUMN velib.membership.members IS 'Its processes in their order; the first leads it.';
COMMENT ON COLUMN velib.membership.addresses IS 'Where each of them is reached by the others.';
COMMENT ON COLUMN velib.membership.decided_at IS 'When it was decided.';

CREATE FUNCTION velib.notify_membership() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('velib_membership', '');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION velib.notify_membership() IS 'Tells the listeners of velib_membership to look again, before their next heartbeat.';
CREATE TRIGGER membership_changed
    AFTER UPDATE ON velib.membership FOR EACH ROW
    WHEN ((OLD.leader, OLD.wanted, OLD.generation) IS DISTINCT FROM (NEW.leader, NEW.wanted, NEW.generation))
    EXECUTE FUNCTION velib.notify_membership();
CREATE TRIGGER process_changed
    AFTER UPDATE ON velib.cluster FOR EACH ROW
    WHEN ((OLD.process, OLD.ended, OLD.leaving) IS DISTINCT FROM (NEW.process, NEW.ended, NEW.leaving))
    EXECUTE FUNCTION velib.notify_membership();
CREATE TRIGGER process_came_or_went
    AFTER INSERT OR DELETE ON velib.cluster FOR EACH ROW
    EXECUTE FUNCTION velib.notify_membership();
COMMENT ON TRIGGER membership_changed ON velib.membership IS 'Not on renewals of the lease.';
COMMENT ON TRIGGER process_changed ON velib.cluster IS 'Not on heartbeats.';
COMMENT ON TRIGGER process_came_or_went ON velib.cluster IS 'Who leads looks at once.';
