//! `TUMBLE`, `HOP` and `SESSION` in the `FROM` clause: the rows of a relation beside the window of time that
//! each is in, `window_start` (inclusive) and `window_end` (exclusive).
//!
//! - `TUMBLE(relation, time, size)`: windows of one length, one after another; every row is in one.
//! - `HOP(relation, time, hop, size)`: windows of one length that begin every `hop`; a row is in `size / hop`.
//! - `SESSION(relation, time, gap [, key, …])`: rows of a key, none of which is `gap` or longer after the one
//!   before, are in one. A late row may make one of two.
//!
//! - `generate_series(first, last [, step])` of whole numbers: a row each.
//!
//! Each is written out as the query that it stands for before anything else sees it, so that whatever is
//! known of `date_bin` and of window functions holds here. Windows of `TUMBLE` and `HOP` are counted from
//! 1970-01-01 00:00:00 UTC.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, Query, TableAlias, TableAliasColumnDef, TableFactor, Value, VisitMut,
    VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Tokenizer;

use super::duration_ms;

/// Windows that one row of `HOP` may be in.
const MAX_HOPS: u64 = 1_000;

/// Rows that `generate_series` may have.
const MAX_SERIES: i128 = 100_000;

/// Writes out the table functions of `query`.
///
/// # Errors
/// Arguments that the function does not have.
pub(super) fn expand(query: &mut impl VisitMut) -> Result<(), ParserError> {
    match query.visit(&mut Expand) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(message) => Err(ParserError::ParserError(message)),
    }
}

struct Expand;

impl VisitorMut for Expand {
    type Break = String;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<String> {
        let TableFactor::Table { name, args: Some(args), alias, .. } = factor else { return ControlFlow::Continue(()) };
        let function = super::parse::object(name).to_lowercase();
        let given: Option<Vec<&Expr>> = args.args.iter().map(argument).collect();
        let text = match (function.as_str(), given) {
            ("tumble", Some(given)) => tumble(&given),
            ("hop", Some(given)) => hop(&given),
            ("session", Some(given)) => session(&given),
            ("generate_series", Some(given)) => series(&given),
            _ => return ControlFlow::Continue(()),
        };
        let subquery = match text.and_then(|text| parsed(&text)) {
            Ok(query) => Box::new(query),
            Err(message) => return ControlFlow::Break(message),
        };
        let named = || TableAlias { explicit: true, name: Ident::new(&function), columns: vec![], at: None };
        let mut alias = alias.clone().unwrap_or_else(named);
        // The one column of a series has the series' name.
        if function == "generate_series" && alias.columns.is_empty() {
            alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
        }
        let alias = Some(alias);
        *factor = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
        ControlFlow::Continue(())
    }
}

/// Without places: the text is none of the user's.
fn parsed(text: &str) -> Result<Query, String> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize().map_err(|e| e.to_string())?;
    let query = Parser::new(&dialect).with_tokens(tokens).parse_query().map_err(|e| e.to_string())?;
    Ok(*query)
}

fn argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// The relation and the column of time.
fn over<'a>(given: &[&'a Expr], form: &str) -> Result<(&'a Expr, &'a Expr), String> {
    let is_name = |e: &Expr| matches!(e, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
    match given {
        [relation, time, _, ..] if is_name(relation) && is_name(time) => Ok((relation, time)),
        _ => Err(format!("expected {form}")),
    }
}

/// A length of time that is always the same.
fn length(expr: &Expr, form: &str) -> Result<u64, String> {
    let wrong = || format!("{expr} is no fixed length of time, as in {form}");
    let Expr::Interval(interval) = expr else { return Err(wrong()) };
    let text = match interval.value.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => text.clone(),
            Value::Number(number, _) => number.to_string(),
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    let unit = interval.leading_field.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
    duration_ms(&format!("{text}{unit}")).ok_or_else(wrong)
}

fn tumble(given: &[&Expr]) -> Result<String, String> {
    let form = "TUMBLE(relation, time, INTERVAL '1 minute')";
    let (relation, time) = over(given, form)?;
    let [_, _, size] = given else { return Err(format!("expected {form}")) };
    let size = length(size, form)?;
    let start = format!("date_bin(INTERVAL '{size} milliseconds', {time})");
    Ok(format!(
        "SELECT *, {start} AS window_start, {start} + INTERVAL '{size} milliseconds' AS window_end FROM {relation}"
    ))
}

fn hop(given: &[&Expr]) -> Result<String, String> {
    let form = "HOP(relation, time, INTERVAL '1 minute', INTERVAL '5 minutes')";
    let (relation, time) = over(given, form)?;
    let [_, _, hop, size] = given else { return Err(format!("expected {form}")) };
    let (hop, size) = (length(hop, form)?, length(size, form)?);
    if size < hop || !size.is_multiple_of(hop) || size / hop > MAX_HOPS {
        return Err(format!("the size of a HOP is a multiple of its hop, {MAX_HOPS} times at most, as in {form}"));
    }
    let window = |back: u64| {
        let start = format!("date_bin(INTERVAL '{hop} milliseconds', {time})");
        let end = size - back;
        format!(
            "SELECT *, {start} - INTERVAL '{back} milliseconds' AS window_start, \
             {start} + INTERVAL '{end} milliseconds' AS window_end FROM {relation}"
        )
    };
    Ok((0..size / hop).rev().map(|nth| window(nth * hop)).collect::<Vec<_>>().join(" UNION ALL "))
}

fn session(given: &[&Expr]) -> Result<String, String> {
    let form = "SESSION(relation, time, INTERVAL '10 minutes', key)";
    let (relation, time) = over(given, form)?;
    let [_, _, gap, keys @ ..] = given else { return Err(format!("expected {form}")) };
    let gap = length(gap, form)?;
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let partition = |more: &str| {
        let all: Vec<&str> = keys.iter().map(String::as_str).chain((!more.is_empty()).then_some(more)).collect();
        if all.is_empty() { String::new() } else { format!("PARTITION BY {} ", all.join(", ")) }
    };
    let (by_key, by_session) = (partition(""), partition("velib_session"));
    Ok(format!(
        "SELECT * EXCLUDE (velib_before, velib_session), \
         min({time}) OVER ({by_session}) AS window_start, \
         max({time}) OVER ({by_session}) + INTERVAL '{gap} milliseconds' AS window_end FROM ( \
         SELECT *, sum(CASE WHEN velib_before + INTERVAL '{gap} milliseconds' > {time} THEN 0 ELSE 1 END) \
         OVER ({by_key}ORDER BY {time}) AS velib_session FROM ( \
         SELECT *, lag({time}) OVER ({by_key}ORDER BY {time}) AS velib_before FROM {relation} \
         WHERE {time} IS NOT NULL) AS velib_ordered) AS velib_parted"
    ))
}

fn series(given: &[&Expr]) -> Result<String, String> {
    let form = "generate_series(1, 10) with whole numbers in writing";
    let number = |e: &&Expr| e.to_string().replace(' ', "").parse::<i64>().map_err(|_| format!("expected {form}"));
    let numbers: Vec<i64> = given.iter().map(number).collect::<Result<_, _>>()?;
    let (first, last, step) = match numbers.as_slice() {
        [first, last] => (*first, *last, 1),
        [first, last, step] if *step != 0 => (*first, *last, *step),
        _ => return Err(format!("expected {form}")),
    };
    let count = (i128::from(last) - i128::from(first)) / i128::from(step) + 1;
    if count > MAX_SERIES {
        return Err(format!("generate_series of more than {MAX_SERIES} rows"));
    }
    let goes = if step > 0 { first <= last } else { first >= last };
    if !goes {
        return Ok("SELECT CAST(NULL AS BIGINT) AS generate_series WHERE false".to_owned());
    }
    let rows: Vec<String> = (0..count).map(|nth| format!("({})", i128::from(first) + nth * i128::from(step))).collect();
    Ok(format!("SELECT column1 AS generate_series FROM (VALUES {}) AS velib_series", rows.join(", ")))
}
