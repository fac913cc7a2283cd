//! Processes come, go, die and fall silent: the others go on without them and with them, and the tables move on.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::cluster::{Cluster, Process, eventually, free_port};
use super::feed::{self, Life, live_job, submission};

/// Asks `through` until the generation is after `after` and has these processes, whoever leads: its number, and the
/// processes in its order.
async fn members(cluster: &Cluster, through: usize, after: u64, of: &[usize]) -> (u64, Vec<usize>) {
    let http = velib_engine::source::build_client().unwrap();
    eventually(&format!("a generation of {of:?}"), async || {
        // It may have been started just now.
        let answer = http.get(format!("http://{}/api/status", cluster.apis[through])).send().await;
        let text = answer.map_err(|error| error.to_string())?.bytes().await.map_err(|error| error.to_string())?;
        let status: Value = serde_json::from_slice(&text).unwrap_or_default();
        let number = status["generation"].as_u64().unwrap_or_default();
        let listed = status["processes"].as_array().cloned().unwrap_or_default();
        let place = |address: &Value| cluster.apis.iter().position(|api| address == api);
        let found: Vec<usize> = listed
            .iter()
            .filter(|process| process["index"].is_u64() && process["generation"] == status["generation"])
            .filter_map(|process| place(&process["address"]))
            .collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        if number > after && sorted == of { Ok((number, found)) } else { Err(format!("{found:?} in {status}")) }
    })
    .await
}

/// Waits for a commit of a generation after `after`: how long it took, and the generation.
async fn commits(cluster: &Cluster, begun: Instant, after: u64) -> (Duration, u64) {
    let sql = cluster.connect().await;
    eventually("a commit of a later generation", async || {
        let row = sql.query_one("SELECT generation FROM velib.frontier WHERE job = 'city'", &[]).await;
        let now = row.map_err(|error| error.to_string())?.get::<_, i64>(0) as u64;
        if now > after { Ok((begun.elapsed(), now)) } else { Err(format!("{now} after {after}")) }
    })
    .await
}

async fn with_job(processes: usize) -> (Cluster, Arc<Life>) {
    let (life, city) = (Arc::new(Life::of(1_500)), feed::city().await);
    let cluster = Cluster::start(processes, 1).await;
    let (code, answer) = cluster.submit(&submission("city", &live_job(&city))).await;
    assert_eq!(code, 201, "{answer}");
    cluster.shows_more("city", &life, 0).await;
    // The city lives for as long as the test.
    std::mem::forget(city);
    (cluster, life)
}

async fn goes_on(cluster: &Cluster, life: &Life) {
    let shown = cluster.shown("city", life).await;
    cluster.shows_more("city", life, shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_and_the_leader_are_killed_and_others_go_on() {
    let (mut cluster, life) = with_job(3).await;
    let (first, order) = members(&cluster, 0, 0, &[0, 1, 2]).await;
    let (leader, follower, last) = (order[0], order[2], order[1]);
    let begun = Instant::now();
    cluster.kill(follower);
    let (pause, second) = commits(&cluster, begun, first).await;
    println!("pause after kill -9 of a follower: {pause:?}");
    goes_on(&cluster, &life).await;
    let begun = Instant::now();
    cluster.kill(leader);
    let (pause, third) = commits(&cluster, begun, second).await;
    println!("pause after kill -9 of the leader: {pause:?}");
    goes_on(&cluster, &life).await;
    // The one that is left leads, and answers itself.
    assert_eq!(members(&cluster, last, second, &[last]).await, (third, vec![last]));
    // They come back, and are taken in; who leads goes on leading.
    cluster.start_again(leader);
    cluster.start_again(follower);
    let (_, order) = members(&cluster, leader, third, &[0, 1, 2]).await;
    assert_eq!(order[0], last);
    goes_on(&cluster, &life).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_join_leave_and_stand_by() {
    let (mut cluster, life) = with_job(1).await;
    let (first, _) = members(&cluster, 0, 0, &[0]).await;
    let begun = Instant::now();
    cluster.add();
    cluster.add();
    let (second, order) = members(&cluster, 2, first, &[0, 1, 2]).await;
    println!("two processes joined within {:?}, in {} generations", begun.elapsed(), second - first);
    assert_eq!(order[0], 0);
    goes_on(&cluster, &life).await;
    let begun = Instant::now();
    let (code, _) = cluster.ask(1, Method::POST, "/api/scale", Some(&json!({ "processes": 1 }))).await;
    assert_eq!(code, 200);
    let (third, _) = members(&cluster, 0, second, &[0]).await;
    println!("scaled 3 to 1 within {:?}", begun.elapsed());
    eventually("a standby", async || match cluster.words(2, "/readyz").await {
        (200, words) if words == "standby\n" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    goes_on(&cluster, &life).await;
    let begun = Instant::now();
    cluster.ask(2, Method::POST, "/api/scale", Some(&json!({ "processes": null }))).await;
    let (fourth, _) = members(&cluster, 1, third, &[0, 1, 2]).await;
    println!("scaled 1 to 3 within {:?}", begun.elapsed());
    goes_on(&cluster, &life).await;
    let begun = Instant::now();
    let status = cluster.processes[2].take().unwrap().terminate().await;
    assert!(status.success(), "{status}");
    let (fifth, _) = members(&cluster, 1, fourth, &[0, 1]).await;
    println!("a process left within {:?}", begun.elapsed());
    // The leader takes its leave.
    let status = cluster.processes[0].take().unwrap().terminate().await;
    assert!(status.success(), "{status}");
    members(&cluster, 1, fifth, &[1]).await;
    goes_on(&cluster, &life).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_machine_is_left_behind_and_does_not_write_when_it_wakes() {
    let (mut cluster, life) = with_job(3).await;
    let (mut before, mut order) = members(&cluster, 0, 0, &[0, 1, 2]).await;
    for which in ["a follower", "the leader"] {
        let silent = if which == "the leader" { order[0] } else { order[2] };
        let left: Vec<usize> = (0..3).filter(|process| *process != silent).collect();
        let begun = Instant::now();
        cluster.signal(silent, "STOP");
        let (pause, now) = commits(&cluster, begun, before).await;
        println!("pause after {which} fell silent: {pause:?}");
        members(&cluster, left[0], before, &left).await;
        goes_on(&cluster, &life).await;
        cluster.signal(silent, "CONT");
        (before, order) = members(&cluster, left[0], now, &[0, 1, 2]).await;
        assert_ne!(order[0], silent);
        goes_on(&cluster, &life).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_of_the_cluster_does_not_disturb_it() {
    let (mut cluster, life) = with_job(2).await;
    let (before, _) = members(&cluster, 0, 0, &[0, 1]).await;
    for mesh in &cluster.meshes {
        for i in 0..500_u32 {
            let Ok(mut socket) = TcpStream::connect(mesh) else { continue };
            // It may be closed on us.
            let _ = socket.write_all(&i.to_le_bytes().repeat(40));
        }
    }
    let (api, url) = (format!("127.0.0.1:{}", free_port()), cluster.database.url());
    let wrong = [("VELIB_DATABASE_URL", url.as_str()), ("VELIB_CLUSTER__WORKERS", "1")];
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "another secret").unwrap();
    let secret = secret.display().to_string();
    let other = Process::start(&["worker", "--api", &api, "--secret-file", &secret], &wrong);
    let more = Process::start(
        &["worker", "--api", &format!("127.0.0.1:{}", free_port()), "--workers", "3"],
        &[("VELIB_DATABASE_URL", url.as_str())],
    );
    for (process, says) in [(&other, "cluster.secret"), (&more, "it has 3 workers and the others 1")] {
        eventually("the reason", async || match process.said() {
            said if said.contains(says) => Ok(()),
            said => Err(said),
        })
        .await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    goes_on(&cluster, &life).await;
    assert_eq!(members(&cluster, 0, 0, &[0, 1]).await.0, before, "the generation is the same");
    cluster.stop().await;
}
