//! Random schemas, queries and update scripts: at every timestamp a maintained view holds what its query
//! yields in batch, on 1, 2 and 4 workers.
//!
//! `VELIB_ORACLE_SEEDS=n` tries n seeds, from `VELIB_ORACLE_SEED` on. A failure prints the shortest script
//! that was found to fail; it belongs into `tests/sql/found.slt`.

#![allow(clippy::unwrap_used)]

mod query;
mod run;
mod script;

use script::Script;

/// As many seeds as an ordinary test run has time for.
const SEEDS: u64 = 12;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn what_follows_from_edges_is_what_batch_yields() {
    let (first, count) = (setting("VELIB_ORACLE_SEED", 1), setting("VELIB_ORACLE_SEEDS", SEEDS));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for seed in first..first + count {
        let script = Script::of_graph(seed);
        let outcome = runtime.block_on(run::run(&script, &[1, 2, 4]));
        assert_eq!(outcome.refused, Vec::<String>::new());
        if let Some(failure) = outcome.failure {
            let (script, failure) = runtime.block_on(run::shrink(&script, failure));
            panic!("seed {seed}: {failure}\n\n{script}\n");
        }
    }
}

#[test]
fn maintained_views_are_what_their_queries_yield() {
    let (first, count) = (setting("VELIB_ORACLE_SEED", 1), setting("VELIB_ORACLE_SEEDS", SEEDS));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut views, mut refused, mut failed, mut seen) = (0, 0, 0, [0; 3]);
    for seed in first..first + count {
        let script = Script::random(seed);
        let outcome = runtime.block_on(run::run(&script, &[1, 2, 4]));
        views += outcome.views;
        seen.iter_mut().zip(outcome.seen).for_each(|(all, seen)| *all += seen);
        refused += outcome.refused.len();
        if std::env::var_os("VELIB_ORACLE_REFUSED").is_some() {
            outcome.refused.iter().for_each(|refusal| println!("seed {seed} refused: {refusal}"));
        }
        if let Some(failure) = outcome.failure {
            failed += 1;
            let (script, failure) = runtime.block_on(run::shrink(&script, failure));
            println!("seed {seed}: {failure}\n\n{script}\n");
        }
    }
    let [compared, with_rows, errors] = seen;
    println!(
        "{count} seeds, {views} views, {refused} refused; compared {compared} times, {with_rows} with rows, \
         {errors} where the query failed; {failed} seeds failed"
    );
    assert_eq!(failed, 0, "views differ from their queries");
    assert!(refused * 3 < views && with_rows * 3 > compared, "too little is compared for this to mean much");
}
