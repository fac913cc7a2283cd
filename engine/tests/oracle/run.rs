//! Runs a script on several shells and compares what their views hold with what the queries yield.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use velib_engine::shell::{Answer, Shell};

use crate::script::{Script, Step};

/// A statement that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a failing script is tried without one of its parts.
const ATTEMPTS: usize = 250;

/// What became of a script.
#[derive(Default)]
pub struct Outcome {
    pub views: usize,
    /// Views that cannot be maintained, and why.
    pub refused: Vec<String>,
    pub failure: Option<Failure>,
    /// How often a view was compared, how often it had rows, and how often its query failed.
    pub seen: [usize; 3],
}

/// A view that is wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    pub view: String,
    pub workers: usize,
    what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "view {} on {} workers: {}", self.view, self.workers, self.what)
    }
}

async fn execute(shell: &mut Shell, text: &str) -> Result<Answer, String> {
    match tokio::time::timeout(LIMIT, shell.execute(text)).await {
        Ok(answer) => answer.map_err(|error| error.message()),
        Err(_) => Err("the workers have ended: or hang".into()),
    }
}

fn is_fatal(error: &str) -> bool {
    error.contains("the workers have ended") || error.contains("a generation has ended")
}

/// Runs `script` on a shell for each number of workers, up to the first failure.
pub async fn run(script: &Script, workers: &[usize]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut shells: Vec<Shell> =
        workers.iter().map(|count| Shell::new(*count, Arc::new(|| 1_000_000_000_000)).unwrap()).collect();
    let mut views: Vec<(String, String)> = vec![];
    for step in &script.steps {
        let text = step.to_string();
        let mut error = None;
        for (shell, workers) in shells.iter_mut().zip(workers) {
            error = execute(shell, &text).await.err();
            if let Some(error) = error.as_ref().filter(|error| is_fatal(error)) {
                let view = text.clone();
                outcome.failure = Some(Failure { view, workers: *workers, what: error.clone() });
                return outcome;
            }
        }
        match (step, error) {
            (Step::View { name, query }, None) => {
                outcome.views += 1;
                views.push((name.clone(), query.clone()));
            }
            (Step::View { query, .. }, Some(error)) => outcome.refused.push(format!("{error}: {query}")),
            (Step::Create(_), _) => continue,
            _ => {}
        }
        outcome.failure = compare(&mut shells, workers, &views, &mut outcome.seen).await;
        if let Some(failure) = &mut outcome.failure {
            failure.what = format!("after {text}\n{}", failure.what);
            break;
        }
    }
    let fatal = outcome.failure.is_some();
    for shell in shells {
        // Workers that failed may not answer any more.
        if !fatal {
            shell.stop().await;
        }
    }
    outcome
}

async fn compare(
    shells: &mut [Shell],
    workers: &[usize],
    views: &[(String, String)],
    seen: &mut [usize; 3],
) -> Option<Failure> {
    for (name, query) in views {
        let expected = execute(&mut shells[0], query).await;
        seen[0] += 1;
        seen[1] += usize::from(expected.as_ref().is_ok_and(|answer| !rows(answer).is_empty()));
        seen[2] += usize::from(expected.is_err());
        for (shell, workers) in shells.iter_mut().zip(workers) {
            let held = execute(shell, &format!("SELECT * FROM {name}")).await;
            let failure = |what: String| Some(Failure { view: name.clone(), workers: *workers, what });
            match (&expected, held) {
                (_, Err(error)) if is_fatal(&error) => return failure(error),
                // Which of the rows are computed at all is for each execution to say.
                (Err(_), _) => {}
                (Ok(_), Err(error)) => return failure(format!("fails ({error}), its query does not")),
                (Ok(expected), Ok(held)) => {
                    let (expected, held) = (rows(expected), rows(&held));
                    if !same(&expected, &held) {
                        return failure(format!("expected {expected:?}\nheld     {held:?}"));
                    }
                }
            }
        }
    }
    None
}

/// A value: floats as such, all else as text.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Text(String),
    Float(f64),
}

fn rows(answer: &Answer) -> Vec<Vec<Cell>> {
    let floats: Vec<bool> = answer.header().iter().map(|(_, kind)| kind == "double precision").collect();
    let cell = |(text, float): (Option<String>, &bool)| match text {
        None => Cell::Null,
        Some(text) if *float => Cell::Float(text.parse().unwrap()),
        Some(text) => Cell::Text(text),
    };
    let mut rows: Vec<Vec<Cell>> =
        answer.texts().into_iter().map(|row| row.into_iter().zip(&floats).map(cell).collect()).collect();
    rows.sort_by(|a, b| order(a, b));
    rows
}

/// By what is exact, then by floats.
fn order(a: &[Cell], b: &[Cell]) -> Ordering {
    let by = |floats: bool| {
        let cells = a.iter().zip(b).map(|(a, b)| match (a, b) {
            (Cell::Float(a), Cell::Float(b)) => {
                if floats {
                    a.total_cmp(b)
                } else {
                    Ordering::Equal
                }
            }
            (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
            (Cell::Null, Cell::Null) => Ordering::Equal,
            (Cell::Null, _) => Ordering::Less,
            (_, Cell::Null) => Ordering::Greater,
            _ => unreachable!("a column has one type"),
        });
        cells.fold(Ordering::Equal, Ordering::then)
    };
    by(false).then(by(true))
}

fn same(a: &[Vec<Cell>], b: &[Vec<Cell>]) -> bool {
    let close = |(a, b): (&Cell, &Cell)| match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => {
            a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
        }
        (a, b) => a == b,
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(close))
}

/// A shorter script that fails as well.
pub async fn shrink(script: &Script, failure: Failure) -> (Script, Failure) {
    let (mut script, mut failure) = (script.clone(), failure);
    let mut attempts = 0;
    let mut tried: BTreeSet<String> = BTreeSet::new();
    'shorter: loop {
        for candidate in shorter(&script) {
            if attempts == ATTEMPTS {
                break 'shorter;
            }
            if !tried.insert(candidate.to_string()) {
                continue;
            }
            attempts += 1;
            if let Some(found) = run(&candidate, &[failure.workers]).await.failure {
                (script, failure) = (candidate, found);
                continue 'shorter;
            }
        }
        break;
    }
    (script, failure)
}

/// The script without one of its parts, great ones first.
fn shorter(script: &Script) -> Vec<Script> {
    let mut all = vec![];
    let without = |range: std::ops::Range<usize>| {
        let mut steps = script.steps.clone();
        steps.drain(range);
        Script { steps }
    };
    let len = script.steps.len();
    for size in [len / 2, len / 4, 1] {
        if size > 0 {
            all.extend((0..len - size + 1).rev().step_by(size.max(1)).map(|start| without(start..start + size)));
        }
    }
    for (at, step) in script.steps.iter().enumerate() {
        if let Step::Insert { table, rows } = step {
            for row in 0..rows.len() {
                let mut kept = rows.clone();
                kept.remove(row);
                if !kept.is_empty() {
                    let mut steps = script.steps.clone();
                    steps[at] = Step::Insert { table: table.clone(), rows: kept };
                    all.push(Script { steps });
                }
            }
        }
    }
    all
}
