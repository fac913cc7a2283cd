CREATE TABLE velib.jobs (
    name          text PRIMARY KEY,
    version       bigint NOT NULL DEFAULT 1,
    text          text NOT NULL,
    parameters    jsonb NOT NULL DEFAULT '{}',
    resolved      text NOT NULL,
    desired       text NOT NULL DEFAULT 'running' CHECK (desired IN ('running', 'paused')),
    status        text NOT NULL DEFAULT 'pending',
    status_detail text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE velib.jobs IS 'The jobs that the cluster runs; every process builds its dataflows from here.';
COMMENT ON COLUMN velib.jobs.name IS 'The name of the job, and of the schema that holds its views.';
COMMENT ON COLUMN velib.jobs.version IS 'Counts the replacements of the definition.';
COMMENT ON COLUMN velib.jobs.text IS 'The SQL of the job as it was submitted.';
COMMENT ON COLUMN velib.jobs.parameters IS 'The parameters given at submission, by name.';
COMMENT ON COLUMN velib.jobs.resolved IS 'What its sources were found to offer when it was submitted; for the engine only.';
COMMENT ON COLUMN velib.jobs.desired IS 'What it is to do: running or paused.';
COMMENT ON COLUMN velib.jobs.status IS 'What it does: pending, running, paused, failed or finished.';
COMMENT ON COLUMN velib.jobs.status_detail IS 'Why, where there is something to say.';
COMMENT ON COLUMN velib.jobs.created_at IS 'When it was first submitted.';
COMMENT ON COLUMN velib.jobs.updated_at IS 'When this row last changed.';

CREATE FUNCTION velib.notify_jobs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('velib_jobs', coalesce(NEW.name, OLD.name));
    RETURN NULL;
END $$;
COMMENT ON FUNCTION velib.notify_jobs() IS 'Tells the listeners of velib_jobs which job is to be looked at again.';
CREATE TRIGGER jobs_changed
    AFTER INSERT OR DELETE OR UPDATE OF version, text, parameters, resolved, desired ON velib.jobs
    FOR EACH ROW EXECUTE FUNCTION velib.notify_jobs();
COMMENT ON TRIGGER jobs_changed ON velib.jobs IS 'Not on changes of status: who writes those is who listens.';

CREATE SEQUENCE velib.generation AS bigint;
COMMENT ON SEQUENCE velib.generation IS 'Numbers the generations of the cluster; a greater one fences off all lesser ones.';

CREATE TABLE velib.frontier (
    job          text PRIMARY KEY,
    generation   bigint NOT NULL,
    session      bigint NOT NULL,
    upper        bigint NOT NULL,
    as_of        timestamptz NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE velib.frontier IS 'How far the tables of each job are: written in the transaction that moves them.';
COMMENT ON COLUMN velib.frontier.job IS 'The job.';
COMMENT ON COLUMN velib.frontier.generation IS 'The generation of the cluster that wrote last; lesser ones cannot write any more.';
COMMENT ON COLUMN velib.frontier.session IS 'Counts the connections of writers: what a lost connection still had under way cannot commit any more.';
COMMENT ON COLUMN velib.frontier.upper IS 'Milliseconds since 1970: everything before this timestamp is in the tables.';
COMMENT ON COLUMN velib.frontier.as_of IS 'The time of the snapshot that all tables of the job are as of.';
COMMENT ON COLUMN velib.frontier.committed_at IS 'When it was written.';

CREATE FUNCTION velib.advance(
    the_job text, my_generation bigint, my_session bigint, expected bigint, new_upper bigint, new_as_of timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE velib.frontier
       SET upper = new_upper, as_of = new_as_of, committed_at = clock_timestamp()
     WHERE job = the_job AND generation = my_generation AND session = my_session AND upper = expected;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another writer has taken over the job %', the_job USING ERRCODE = 'VB001';
    END IF;
END $$;
COMMENT ON FUNCTION velib.advance(text, bigint, bigint, bigint, bigint, timestamptz) IS
    'Moves the frontier of a job on, or fails the transaction (VB001) if its writer is not the newest.';

CREATE TABLE velib.views (
    job     text NOT NULL,
    view    text NOT NULL,
    key     text[] NOT NULL,
    retain  interval,
    comment text,
    indexes text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (job, view)
);
COMMENT ON TABLE velib.views IS 'The tables that the engine keeps, one for each view of a job, in the schema of the job''s name.';
COMMENT ON COLUMN velib.views.job IS 'The job, and the schema of the table.';
COMMENT ON COLUMN velib.views.view IS 'The view, and its table.';
COMMENT ON COLUMN velib.views.key IS 'The columns that identify a row; none: rows carry a multiplicity.';
COMMENT ON COLUMN velib.views.retain IS 'Rows older than this stay in the table though the engine holds them no more.';
COMMENT ON COLUMN velib.views.comment IS 'What the view is.';
COMMENT ON COLUMN velib.views.indexes IS 'The indexes of the engine on this table; others are not touched.';

CREATE TABLE velib.errors (
    job     text NOT NULL,
    view    text NOT NULL,
    message text NOT NULL,
    count   bigint NOT NULL,
    PRIMARY KEY (job, view, message)
);
COMMENT ON TABLE velib.errors IS 'Rows that views had to leave out; an entry stands for as long as its cause does.';
COMMENT ON COLUMN velib.errors.job IS 'The job.';
COMMENT ON COLUMN velib.errors.view IS 'The view that goes on without the rows.';
COMMENT ON COLUMN velib.errors.message IS 'Why they are left out.';
COMMENT ON COLUMN velib.errors.count IS 'How many there are.';

CREATE TABLE velib.quarantine (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job      text NOT NULL,
    source   text NOT NULL,
    relation text NOT NULL,
    at       timestamptz NOT NULL,
    reason   text NOT NULL,
    sample   text NOT NULL
);
CREATE INDEX quarantine_job_source_id ON velib.quarantine (job, source, id);
COMMENT ON TABLE velib.quarantine IS 'Input that was refused: the newest of each job and source.';
COMMENT ON COLUMN velib.quarantine.id IS 'Increases with each refusal.';
COMMENT ON COLUMN velib.quarantine.job IS 'The job that reads the source.';
COMMENT ON COLUMN velib.quarantine.source IS 'The source, as the job names it.';
COMMENT ON COLUMN velib.quarantine.relation IS 'The relation of the source; empty: the document as a whole.';
COMMENT ON COLUMN velib.quarantine.at IS 'The time of the snapshot.';
COMMENT ON COLUMN velib.quarantine.reason IS 'Why it was refused.';
COMMENT ON COLUMN velib.quarantine.sample IS 'The row, or the beginning of the document.';
COMMENT ON INDEX velib.quarantine_job_source_id IS 'For dropping the oldest.';

CREATE TABLE velib.cluster (
    address    text PRIMARY KEY,
    index      integer,
    workers    integer NOT NULL,
    generation bigint,
    heartbeat  timestamptz NOT NULL DEFAULT clock_timestamp(),
    version    text NOT NULL
);
COMMENT ON TABLE velib.cluster IS 'The processes of the cluster, one row each, for as long as they send heartbeats.';
COMMENT ON COLUMN velib.cluster.address IS 'Where the other processes reach it.';
COMMENT ON COLUMN velib.cluster.index IS 'Its place in its generation; none: it waits for the next one.';
COMMENT ON COLUMN velib.cluster.workers IS 'How many workers it runs.';
COMMENT ON COLUMN velib.cluster.generation IS 'The generation that it is part of.';
COMMENT ON COLUMN velib.cluster.heartbeat IS 'When it was last heard of, by the clock of the database.';
COMMENT ON COLUMN velib.cluster.version IS 'The version of its engine.';
