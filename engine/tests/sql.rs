//! SQL that views are kept up to date with, as data: `tests/sql/*.slt`, run in `velib sql` over a pipe.
//!
//! Files named `pg_*.slt` also run on a real PostgreSQL, which is right by definition: there a
//! materialized view is a plain one, so it is always up to date.
//!
//! `cargo test --test sql -- FILE-OR-FOLDER…` runs others; `VELIB_UPDATE=1` writes what comes out (of
//! PostgreSQL, in `pg_*` files) into the files.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Mutex;

use serde_json::Value;
use sqllogictest::{
    AsyncDB, DB, DBOutput, DefaultColumnType, MakeConnection, Runner, default_column_validator, default_normalizer,
    default_validator,
};
use tokio::runtime::Runtime;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;
use velib_engine::postgres::private::{Durability, Private};

/// Files that run at the same time.
const AT_ONCE: usize = 2;

/// Why a statement failed, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(String);

type Output = Result<DBOutput<DefaultColumnType>, Failed>;

/// A `velib sql` of its own.
struct Velib {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Velib {
    fn start(workers: usize) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_velib"))
            .args(["sql", "--output", "json", "--workers", &workers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Velib { child, input, output }
    }
}

impl Drop for Velib {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl DB for Velib {
    type Error = Failed;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Output {
        let gone = |error: std::io::Error| Failed(format!("the shell is gone: {error}"));
        writeln!(self.input, "{};", sql.trim().trim_end_matches(';')).map_err(gone)?;
        self.input.flush().map_err(gone)?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(gone)?;
        let answer: Value = serde_json::from_str(&line).map_err(|e| Failed(format!("{e}: {line:?}")))?;
        if let Some(error) = answer["error"].as_str() {
            return Err(Failed(error.to_owned()));
        }
        let kinds: Vec<&str> =
            answer["columns"].as_array().unwrap().iter().map(|column| column["type"].as_str().unwrap()).collect();
        if kinds.is_empty() {
            return Ok(DBOutput::StatementComplete(answer["affected"].as_u64().unwrap_or_default()));
        }
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::Bool(value) => Some(if *value { "t" } else { "f" }.to_owned()),
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        let types: Vec<_> = kinds.iter().map(|kind| column_type(kind)).collect();
        let row = |row: &Value| row.as_array().unwrap().iter().zip(&types).map(|(v, t)| cell(text(v), t)).collect();
        let rows = answer["rows"].as_array().unwrap().iter().map(row).collect();
        Ok(DBOutput::Rows { types, rows })
    }

    fn engine_name(&self) -> &str {
        "velib"
    }
}

fn column_type(name: &str) -> DefaultColumnType {
    match name {
        "smallint" | "integer" | "bigint" => DefaultColumnType::Integer,
        "real" | "double precision" => DefaultColumnType::FloatingPoint,
        name if name.starts_with("numeric") => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

/// Numbers that are not whole in nine digits, as two databases compute with different types.
fn cell(text: Option<String>, kind: &DefaultColumnType) -> String {
    match (text, kind) {
        (None, _) => "NULL".to_owned(),
        (Some(text), _) if text.is_empty() => "(empty)".to_owned(),
        (Some(text), DefaultColumnType::FloatingPoint) => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                let rounded: f64 = format!("{number:.8e}").parse().unwrap();
                (rounded + 0.0).to_string()
            }
            _ => text,
        },
        (Some(text), _) => text,
    }
}

/// A database of a private PostgreSQL.
struct Postgres<'a> {
    runtime: &'a Runtime,
    client: tokio_postgres::Client,
}

impl<'a> Postgres<'a> {
    fn create(runtime: &'a Runtime, server: &Private, name: &str) -> Self {
        let connect = async |url: &str| {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        };
        let client = runtime.block_on(async {
            let url = server.url();
            let owner = connect(&url).await;
            owner.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await.unwrap();
            let (server, _) = url.rsplit_once('/').unwrap();
            connect(&format!("{server}/{name}")).await
        });
        Postgres { runtime, client }
    }

    fn query(&self, sql: &str) -> Result<DBOutput<DefaultColumnType>, tokio_postgres::Error> {
        self.runtime.block_on(async {
            let columns = self.client.prepare(sql).await?;
            let types: Vec<_> = columns
                .columns()
                .iter()
                .map(|column| match *column.type_() {
                    Type::INT2 | Type::INT4 | Type::INT8 => DefaultColumnType::Integer,
                    Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => DefaultColumnType::FloatingPoint,
                    _ => DefaultColumnType::Text,
                })
                .collect();
            let (mut rows, mut count) = (vec![], 0);
            for message in self.client.simple_query(sql).await? {
                match message {
                    SimpleQueryMessage::Row(row) => {
                        let text = |at: usize| row.get(at).map(str::to_owned);
                        rows.push(types.iter().enumerate().map(|(at, kind)| cell(text(at), kind)).collect());
                    }
                    SimpleQueryMessage::CommandComplete(rows) => count = rows,
                    _ => {}
                }
            }
            Ok(match types.is_empty() {
                true => DBOutput::StatementComplete(count),
                false => DBOutput::Rows { types, rows },
            })
        })
    }
}

impl DB for Postgres<'_> {
    type Error = Failed;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Output {
        let sql = sql.replace("MATERIALIZED VIEW", "VIEW");
        self.query(&sql).map_err(|error| {
            let message = error.as_db_error().map(|error| error.message().to_owned());
            Failed(message.unwrap_or_else(|| error.to_string()))
        })
    }

    fn engine_name(&self) -> &str {
        "postgresql"
    }
}

/// Runs the records of a file; what went wrong.
fn check<D: AsyncDB, M: MakeConnection<Conn = D>>(mut runner: Runner<D, M>, file: &Path) -> Vec<String> {
    let records = match sqllogictest::parse_file::<D::ColumnType>(file) {
        Ok(records) => records,
        Err(error) => return vec![error.to_string()],
    };
    let failed = records.into_iter().filter_map(|record| runner.run(record).err());
    failed.map(|error| error.display(false).to_string()).collect()
}

fn update<D: AsyncDB, M: MakeConnection<Conn = D>>(mut runner: Runner<D, M>, file: &Path) {
    let updating = runner.update_test_file(file, " ", default_validator, default_normalizer, default_column_validator);
    futures::executor::block_on(updating).unwrap();
}

fn is_postgres(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pg_"))
}

struct Servers {
    runtime: Runtime,
    private: Option<Private>,
}

fn run(file: &Path, servers: &Servers, updating: bool) -> Vec<String> {
    let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
    let mut problems = vec![];
    let label = |engine: &str, all: Vec<String>| all.into_iter().map(|p| format!("{engine}: {p}")).collect::<Vec<_>>();
    if let Some(private) = servers.private.as_ref().filter(|_| is_postgres(file)) {
        let postgres = || Runner::new(|| async { Ok(Postgres::create(&servers.runtime, private, &stem)) });
        match updating {
            true => update(postgres(), file),
            false => problems.extend(label("postgresql", check(postgres(), file))),
        }
    } else if updating {
        update(Runner::new(|| async { Ok(Velib::start(2)) }), file);
    }
    problems.extend(label("velib", check(Runner::new(|| async { Ok(Velib::start(2)) }), file)));
    problems
}

fn files(given: &[String]) -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let paths: Vec<&String> = given.iter().filter(|argument| Path::new(argument).exists()).collect();
    let words: Vec<&String> =
        given.iter().filter(|argument| !argument.starts_with('-') && !paths.contains(argument)).collect();
    let roots: Vec<PathBuf> = if paths.is_empty() { vec![own] } else { paths.into_iter().map(PathBuf::from).collect() };
    let mut found = vec![];
    for root in roots {
        match root.is_dir() {
            true => found.extend(glob::glob(&format!("{}/**/*.slt", root.display())).unwrap().map(Result::unwrap)),
            false => found.push(root),
        }
    }
    found.retain(|file| words.is_empty() || words.iter().any(|word| file.to_string_lossy().contains(word.as_str())));
    found.sort();
    found
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let files = files(&given);
    if given.iter().any(|argument| argument == "--list") {
        files.iter().for_each(|file| println!("{}: test", file.display()));
        return ExitCode::SUCCESS;
    }
    let runtime = Runtime::new().unwrap();
    let needed = files.iter().any(|file| is_postgres(file));
    let private = match needed.then(|| runtime.block_on(Private::start(None, Durability::ThrowAway))) {
        None => None,
        Some(Ok(server)) => Some(server),
        Some(Err(error)) => {
            println!("skipped: no PostgreSQL to compare with: {error}");
            None
        }
    };
    let servers = Servers { runtime, private };
    let updating = std::env::var_os("VELIB_UPDATE").is_some();
    let waiting = Mutex::new(VecDeque::from(files));
    let failures = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(file) = { waiting.lock().unwrap().pop_front() } {
                    let begun = std::time::Instant::now();
                    let problems = run(&file, &servers, updating);
                    let verdict = if problems.is_empty() { "ok" } else { "FAILED" };
                    println!("{} … {verdict} ({:.1} s)", file.display(), begun.elapsed().as_secs_f64());
                    problems.iter().for_each(|problem| println!("{problem}\n"));
                    *failures.lock().unwrap() += problems.len();
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    match failures {
        0 => ExitCode::SUCCESS,
        _ => {
            println!("{failures} records failed");
            ExitCode::FAILURE
        }
    }
}
