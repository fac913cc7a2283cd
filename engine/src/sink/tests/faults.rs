//! The world at its worst: newer writers, lost connections, servers that crash.

use std::time::Duration;

use super::*;
use crate::postgres::throwaway::Server;
use crate::sink::task::{Progress, Settings};
use crate::sink::{SinkError, SinkHandle};

fn one(i: i64) -> Vec<Changes> {
    vec![rows(0, &[(i, Some(i), None, 1)])]
}

async fn until(handle: &SinkHandle, met: impl FnMut(&Progress) -> bool) -> Progress {
    let mut progress = handle.progress();
    let reached = tokio::time::timeout(Duration::from_secs(30), progress.wait_for(met)).await;
    reached.expect("in time").expect("the task runs").clone()
}

#[tokio::test]
async fn an_older_generation_is_fenced_off() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let job = job("fence", vec![simple("a", &[0])]);
    let (mut old, mut new) = (sink(&url, &job, 1).await, sink(&url, &job, 2).await);
    old.hydrate(&settled(&job, 10, one(1))).await.unwrap();
    new.hydrate(&settled(&job, 10, one(1))).await.unwrap();
    let fenced = |error: SinkError| matches!(error, SinkError::Fenced { generation: 1, .. }) && !error.is_retriable();
    assert!(fenced(old.commit(&settled(&job, 20, one(2))).await.unwrap_err()));
    assert!(fenced(old.recover(20).await.unwrap_err()));
    assert!(fenced(old.hydrate(&settled(&job, 20, one(2))).await.unwrap_err()));
    new.commit(&settled(&job, 20, one(3))).await.unwrap();
    assert_eq!(table(&client, "SELECT k FROM fence.a").await, ["(1)", "(3)"]);

    let handle = SinkHandle::start(&url, job, 1, Settings::default()).unwrap();
    handle.sender().send(closed(30, one(4))).await.unwrap();
    let progress = until(&handle, |progress| progress.ended).await;
    assert!(matches!(progress.failure.as_deref(), Some(SinkError::Fenced { .. })), "{progress:?}");
}

#[tokio::test]
async fn what_a_lost_connection_had_under_way_is_found_out() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let job = job("unknown", vec![simple("a", &[0])]);
    let mut sink = sink(&url, &job, 1).await;
    sink.hydrate(&settled(&job, 10, one(1))).await.unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'velib sink unknown'";

    // Lost before: not committed.
    client.execute(kill, &[]).await.unwrap();
    let step = settled(&job, 20, one(2));
    let mut lost = 0;
    while let Err(error) = sink.commit(&step).await {
        assert!(error.is_retriable(), "{error}");
        assert!(!sink.recover(20).await.unwrap());
        lost += 1;
    }
    assert!(lost <= 1);
    // Committed, and the answer lost.
    client.batch_execute("UPDATE velib.frontier SET upper = 30").await.unwrap();
    assert!(sink.recover(30).await.unwrap());
    assert_eq!(sink.upper(), Some(30));
    sink.commit(&settled(&job, 40, one(3))).await.unwrap();
    assert_eq!(table(&client, "SELECT k FROM unknown.a").await, ["(1)", "(2)", "(3)"]);

    // What an older session of the same writer sends too late does nothing.
    let late = "SELECT velib.advance('unknown', 1, 0, 40, 50, now())";
    assert!(client.execute(late, &[]).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_killed_all_the_time_lose_and_double_nothing() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let job = job("killed", vec![simple("a", &[0]), simple("n", &[])]);
    let handle = SinkHandle::start(&url, job.clone(), 1, Settings::default()).unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'velib sink killed'";
    let mut expected = vec![];
    for i in 0..200_i64 {
        let changes = vec![rows(0, &[(i, None, None, 1)]), rows(1, &[(0, None, None, 1)])];
        handle.sender().send(closed(10 + i as u64, changes)).await.unwrap();
        expected.push(format!("({i})"));
        if i % 9 == 4 {
            tokio::time::sleep(Duration::from_millis(i as u64 % 7)).await;
            client.execute(kill, &[]).await.unwrap();
        }
    }
    let progress = handle.close().await;
    assert!(progress.failure.is_none() && progress.upper == Some(209), "{progress:?}");
    expected.sort();
    assert_eq!(table(&client, "SELECT k FROM killed.a").await, expected);
    assert_eq!(table(&client, "SELECT velib_multiplicity FROM killed.n").await, ["(200)"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_is_waited_for() {
    let Some(server) = Server::start() else { return };
    let url = server.database();
    drop(reader(&url).await);
    let job = job("crash", vec![simple("a", &[0])]);
    let handle = SinkHandle::start(&url, job.clone(), 1, Settings::default()).unwrap();
    handle.sender().send(closed(10, one(0))).await.unwrap();
    until(&handle, |progress| progress.upper == Some(10)).await;

    server.stop();
    handle.sender().send(closed(11, one(1))).await.unwrap();
    until(&handle, |progress| progress.failed_tries > 0 && progress.error.is_some()).await;
    for i in 2..500 {
        let undone = rows(0, &[(i, Some(i), None, 1), (i - 1, Some(i - 1), None, -1)]);
        handle.sender().send(closed(10 + i as u64, vec![undone])).await.unwrap();
    }
    server.resume();
    let progress = until(&handle, |progress| progress.upper == Some(509)).await;
    assert_eq!((progress.error, progress.failed_tries, progress.waiting_rows), (None, 0, 0));
    let client = connect(&url, "test").await.unwrap();
    assert_eq!(table(&client, "SELECT k FROM crash.a").await, ["(0)", "(499)"]);
    assert!(handle.close().await.ended);
}

#[tokio::test]
async fn a_paused_sink_gathers_and_a_late_one_catches_up_first() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let job = job("paused", vec![simple("a", &[0])]);
    let settings = Settings { hold_until: 13, ..Settings::default() };
    let handle = SinkHandle::start(&url, job.clone(), 1, settings).unwrap();
    for i in 0..4 {
        handle.sender().send(closed(10 + i as u64, one(i))).await.unwrap();
    }
    let progress = until(&handle, |progress| progress.upper.is_some()).await;
    assert_eq!((progress.upper, progress.transactions), (Some(13), 1));

    handle.pause(true);
    for i in 4..8 {
        handle.sender().send(closed(10 + i as u64, one(i))).await.unwrap();
    }
    until(&handle, |progress| progress.waiting_rows == 4).await;
    assert_eq!(table(&client, "SELECT count(*) FROM paused.a").await, ["(4)"]);
    handle.pause(false);
    let progress = until(&handle, |progress| progress.upper == Some(17)).await;
    assert_eq!(progress.transactions, 2);

    // Closing commits the rest, and gives up where there is nobody to commit to.
    handle.sender().send(closed(18, one(8))).await.unwrap();
    assert_eq!(handle.close().await.upper, Some(18));
    let nowhere = "postgresql://postgres@127.0.0.1:1/nowhere";
    let settings = Settings { close_limit: Duration::from_millis(200), ..Settings::default() };
    let handle = SinkHandle::start(nowhere, job, 1, settings).unwrap();
    handle.sender().send(closed(10, one(0))).await.unwrap();
    let progress = handle.close().await;
    assert!(progress.ended && progress.error.unwrap().contains("127.0.0.1:1"));
}

#[tokio::test]
async fn a_sink_behind_its_tables_takes_no_step_back() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let client = reader(&url).await;
    let job = job("behind", vec![simple("a", &[0])]);
    let before = SinkHandle::start(&url, job.clone(), 1, Settings::default()).unwrap();
    before.sender().send(closed(20, vec![rows(0, &[(0, Some(0), None, 1), (1, Some(1), None, 1)])])).await.unwrap();
    assert_eq!(before.close().await.upper, Some(20));

    // Neither while it catches up, nor when it is closed while it does,
    let settings = Settings { hold_until: 20, ..Settings::default() };
    let handle = SinkHandle::start(&url, job.clone(), 2, settings).unwrap();
    handle.sender().send(closed(10, one(0))).await.unwrap();
    let progress = handle.close().await;
    assert!(progress.upper.is_none() && progress.arrived == 10 && progress.failure.is_none(), "{progress:?}");
    assert_eq!(table(&client, "SELECT k FROM behind.a").await, ["(0)", "(1)"]);

    // unless nothing more is to come.
    let handle = SinkHandle::start(&url, job, 3, settings).unwrap();
    handle.sender().send(closed(10, one(0))).await.unwrap();
    until(&handle, |progress| progress.arrived == 10).await;
    handle.release()(10);
    until(&handle, |progress| progress.upper == Some(10)).await;
    assert_eq!(table(&client, "SELECT k FROM behind.a").await, ["(0)"]);
}
