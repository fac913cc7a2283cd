//! Tests of the engine's own tables against a real PostgreSQL.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::job::{Definition, Desired, Status};
use super::membership::{Place, ProcessId, Registration, Registry};
use super::store::{QUARANTINE_KEPT, Store, instant};
use super::throwaway::Server;
use super::{PostgresError, READER, migrate};
use crate::source::Rejection;

fn definition(name: &str) -> Definition {
    let parameters = BTreeMap::from([("low".to_string(), "0.1".to_string())]);
    Definition { name: name.into(), text: "CREATE …".into(), parameters, resolved: "{}".into() }
}

#[tokio::test]
async fn jobs_come_change_and_go_and_their_listeners_are_told() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let store = Store::open(&url).await.unwrap();
    assert!(store.submit(&definition("occupancy")).await.unwrap());
    assert!(!store.submit(&definition("occupancy")).await.unwrap());
    assert!(store.submit(&definition("trends")).await.unwrap());
    let jobs = store.jobs().await.unwrap();
    assert_eq!(jobs.iter().map(|j| j.name.as_str()).collect::<Vec<_>>(), ["occupancy", "trends"]);
    assert_eq!((jobs[0].version, jobs[0].desired, jobs[0].status), (1, Desired::Running, Status::Pending));
    assert_eq!(jobs[0].parameters["low"], "0.1");

    assert!(store.replace(&definition("occupancy")).await.unwrap());
    assert!(store.set_desired("occupancy", Desired::Paused).await.unwrap());
    store.set_status("occupancy", 1, Status::Failed, Some("of an older version")).await.unwrap();
    store.set_status("occupancy", 2, Status::Running, None).await.unwrap();
    let job = store.job("occupancy").await.unwrap().unwrap();
    assert_eq!((job.version, job.desired, job.status), (2, Desired::Paused, Status::Running));
    let brief = &store.briefs().await.unwrap()[0];
    let brief = (&brief.name, brief.version, brief.desired, brief.status, &brief.status_detail, brief.created_at);
    assert_eq!(brief, (&job.name, job.version, job.desired, job.status, &job.status_detail, job.created_at));

    assert!(store.drop_job("occupancy").await.unwrap());
    assert!(!store.drop_job("occupancy").await.unwrap());
    assert!(!store.replace(&definition("occupancy")).await.unwrap());
    assert!(store.job("occupancy").await.unwrap().is_none());
    assert_eq!(store.frontier("trends").await.unwrap(), None);
}

#[tokio::test]
async fn processes_come_beat_lead_and_go() {
    let Some(server) = Server::shared() else { return };
    let (url, silence, limit) = (server.database(), Duration::from_millis(300), Duration::from_secs(10));
    let store = Store::open(&url).await.unwrap();
    let (first, second) = (store.next_generation().await.unwrap(), store.next_generation().await.unwrap());
    assert!(first < second);
    let mut registry = Registry::open(&url, limit).await.unwrap();
    let (a, b) = (ProcessId::from_bytes([1; 16]), ProcessId::new_v4());
    let of = |process, api: &str| Registration {
        process,
        api: api.into(),
        mesh: format!("{api}00"),
        workers: 2,
        proof: vec![7],
    };
    let here = Place::default();
    assert_eq!(registry.beat(a, here, silence, limit).await.unwrap(), None, "it has no row");
    assert!(registry.register(&of(a, "a:1"), silence, limit).await.unwrap());
    assert!(!registry.register(&of(b, "a:1"), silence, limit).await.unwrap(), "the address of one that lives");
    assert!(registry.register(&of(b, "b:1"), silence, limit).await.unwrap());
    // One of them takes the lead, the other cannot; who leads decides, and gives the lead to the first member.
    assert!(registry.take_lead(a, None, silence, limit).await.unwrap());
    assert!(!registry.take_lead(b, None, silence, limit).await.unwrap());
    assert!(!registry.take_lead(b, Some(a), silence, limit).await.unwrap(), "its lease is not over");
    let members = [(b, "b:100".to_string()), (a, "a:100".to_string())];
    assert_eq!(registry.decide(b, 0, 0, &members, silence, limit).await.unwrap(), None);
    let number = registry.decide(a, 0, 40, &members, silence, limit).await.unwrap().unwrap();
    assert!(number > 40, "greater than what is known, whatever the sequence says");
    assert_eq!(registry.decide(a, number, 0, &members, silence, limit).await.unwrap(), None);
    store.want(Some(1)).await.unwrap();
    let place = Place { member: Some((number, 1)), ended: 3, leaving: true };
    let view = registry.beat(a, place, silence, limit).await.unwrap().unwrap();
    assert_eq!((view.leader, view.wanted, view.generation.number), (Some(b), Some(1), number));
    assert_eq!(
        (&view.generation.members[..], &view.generation.addresses[..]),
        (&[b, a][..], &["b:100".to_string(), "a:100".to_string()][..])
    );
    assert_eq!(view.process(a).unwrap().place, place);
    assert_eq!(view.process(b).unwrap().place, here);
    assert!(registry.changed().await.is_some(), "listeners were told");
    // After a silence its address may be had, and its lead.
    tokio::time::sleep(2 * silence).await;
    assert!(registry.take_lead(a, Some(b), silence, limit).await.unwrap());
    registry.leave(a, limit).await.unwrap();
    let view = registry.beat(b, here, silence, limit).await.unwrap().unwrap();
    assert_eq!((view.leader, view.processes.len()), (None, 1));
    assert_eq!(store.heard_of(Duration::from_secs(60)).await.unwrap(), ["b:1"]);
    registry.forget(Duration::ZERO, limit).await.unwrap();
    assert_eq!(registry.beat(b, here, silence, limit).await.unwrap(), None);
}

#[tokio::test]
async fn quarantine_keeps_the_newest() {
    let Some(server) = Server::shared() else { return };
    let store = Store::open(&server.database()).await.unwrap();
    let rejected = |n: std::ops::Range<u64>| {
        n.map(|i| Rejection { time: i, relation: "status".into(), reason: format!("r{i}"), sample: "\0{".into() })
            .collect::<Vec<_>>()
    };
    store.quarantine("job", "velib", &rejected(0..QUARANTINE_KEPT as u64 + 500)).await.unwrap();
    store.quarantine("job", "velib", &rejected(20_000..20_010)).await.unwrap();
    store.quarantine("job", "other", &rejected(0..3)).await.unwrap();
    let sql = "SELECT source, count(*), min(at) FROM velib.quarantine GROUP BY 1 ORDER BY 1";
    let rows = store.query(sql, &[]).await.unwrap();
    let counts: Vec<(String, i64)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(counts, [("other".into(), 3), ("velib".into(), QUARANTINE_KEPT)]);
    assert_eq!(rows[1].get::<_, SystemTime>(2), instant(510));
}

#[tokio::test]
async fn migrations_run_once_side_by_side_and_never_backward() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let opened = futures::future::join_all((0..4).map(|_| Store::open(&url))).await;
    let store = opened.into_iter().collect::<Result<Vec<_>, _>>().unwrap().remove(0);
    assert!(migrate::reader_exists(&store.client().await.unwrap()).await.unwrap());
    let may = format!(
        "SELECT has_table_privilege('{READER}', 'velib.frontier', 'SELECT'),
                              has_table_privilege('{READER}', 'velib.frontier', 'INSERT')"
    );
    let rows = store.query(&may, &[]).await.unwrap();
    assert_eq!((rows[0].get(0), rows[0].get(1)), (true, false));
    // Addresses in the text of a job may hold keys, as may its parameters.
    let hidden = format!(
        "SELECT string_agg(attname::text, ' ' ORDER BY attname) FROM pg_attribute
         WHERE attrelid = 'velib.jobs'::regclass AND attnum > 0
           AND NOT has_column_privilege('{READER}', attrelid, attnum, 'SELECT')"
    );
    assert_eq!(store.query(&hidden, &[]).await.unwrap()[0].get::<_, &str>(0), "parameters resolved text");
    let uncommented = "SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid
        WHERE relnamespace = 'velib'::regnamespace AND relkind = 'r' AND attnum > 0
          AND (col_description(c.oid, attnum) IS NULL OR obj_description(c.oid, 'pg_class') IS NULL)";
    assert!(store.query(uncommented, &[]).await.unwrap().is_empty());

    store.execute("INSERT INTO velib.migrations (version, name) VALUES (999, 'of the future')", &[]).await.unwrap();
    let error = Store::open(&url).await.unwrap_err();
    assert!(matches!(error, PostgresError::Newer { found: 999, .. }) && !error.is_retriable(), "{error}");
}

#[tokio::test]
async fn a_generation_that_takes_over_fences_off_those_before() {
    let Some(server) = Server::shared() else { return };
    let store = Store::open(&server.database()).await.unwrap();
    assert_eq!(store.take_over("job", 7).await.unwrap(), None);
    let there = "INSERT INTO velib.frontier (job, generation, session, upper, as_of) VALUES ('job', 6, 0, 100, now())";
    store.execute(there, &[]).await.unwrap();
    let advance = async |generation: i64, session: i64| {
        let sql = "SELECT velib.advance('job', $1, $2, 100, 100, now())";
        store.query(sql, &[&generation, &session]).await.is_ok()
    };
    assert!(advance(6, 0).await);
    assert_eq!(store.take_over("job", 7).await.unwrap(), Some(100));
    assert!(!advance(6, 0).await && advance(7, 1).await);
    assert_eq!(store.take_over("job", 6).await.unwrap(), None);
    assert!(advance(7, 1).await);
}

#[tokio::test]
async fn the_store_connects_again() {
    let Some(server) = Server::shared() else { return };
    let store = Store::open(&server.database()).await.unwrap();
    let error = store.query("SELECT pg_terminate_backend(pg_backend_pid())", &[]).await.unwrap_err();
    assert!(error.is_retriable() && error.is_lost(), "{error}");
    let again = crate::postgres::retry("asking again", Duration::from_secs(5), || store.jobs()).await;
    assert!(again.unwrap().is_empty());
}
