//! Text to statements.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    self, AssignmentTarget, ColumnOption, CreateTableOptions, FromTable, ObjectName, SqlOption, TableConstraint,
    TableFactor, TableObject,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{IsOptional, Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::depth;
use super::error::{Place, SqlError, did_you_mean, lower_first};
use super::own_functions::Function;
use super::statement::{Explained, Kind, Statement, ViewOptions};
use super::table_functions;
use super::tokens::{self, DIALECT, Parameters};
use crate::source::Options;

/// The statements of `text`, with `overrides` in the place of the values of its parameters.
///
/// # Errors
/// The first place at which the text is none of the job language, and what was expected there.
pub fn parse(text: &str, overrides: &BTreeMap<String, String>) -> Result<Vec<Statement>, SqlError> {
    depth::deep(|| statements(text, overrides))
}

fn statements(text: &str, overrides: &BTreeMap<String, String>) -> Result<Vec<Statement>, SqlError> {
    let shared: Arc<str> = text.into();
    let mut parameters = Parameters::new();
    let mut statements = vec![];
    for tokens in tokens::split(text)? {
        let tokens = tokens::substitute(text, tokens, &parameters)?;
        let kind = match set_parameter(text, &tokens, overrides)? {
            Some((name, value)) => {
                let written = value.iter().map(Token::to_string).collect();
                parameters.insert(name.clone(), value);
                Kind::SetParameter { name, value: written }
            }
            None => {
                depth::check(text, &tokens)?;
                let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens.clone());
                let parsed = statement(&mut parser).and_then(|mut kind| {
                    if let Some(query) = kind.query_mut() {
                        table_functions::expand(query)?;
                    }
                    Ok(kind)
                });
                parsed.map_err(|e| positioned(text, &tokens, &e))?
            }
        };
        statements.push(Statement::new(kind, shared.clone(), &tokens));
    }
    if let Some(unknown) = overrides.keys().find(|name| !parameters.contains_key(*name)) {
        let hint = did_you_mean(unknown, parameters.keys().map(String::as_str));
        return Err(SqlError::new(format!("the text sets no parameter {unknown}"), hint));
    }
    Ok(statements)
}

/// The name and value of a `SET PARAMETER`.
fn set_parameter(
    text: &str,
    tokens: &[TokenWithSpan],
    overrides: &BTreeMap<String, String>,
) -> Result<Option<(String, Vec<Token>)>, SqlError> {
    let words: Vec<&TokenWithSpan> = tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect();
    let is = |i: usize, word: &str| matches!(words.get(i).map(|t| &t.token), Some(Token::Word(w)) if w.value.eq_ignore_ascii_case(word));
    if !(is(0, "set") && is(1, "parameter")) {
        return Ok(None);
    }
    let malformed = |at: usize| {
        let place = words.get(at).or(words.last()).map(|t| tokens::place(t)).unwrap_or_default();
        let hint = Some("write SET PARAMETER name = 0.1; with a number, a string, TRUE or FALSE".to_owned());
        SqlError::new("a parameter is set to a literal", hint).at(text, place)
    };
    let Some(Token::Word(name)) = words.get(2).map(|t| &t.token) else { return Err(malformed(2)) };
    if words.get(3).map(|t| &t.token) != Some(&Token::Eq) {
        return Err(malformed(3));
    }
    let rest: Vec<TokenWithSpan> = words[4..].iter().map(|t| (*t).clone()).collect();
    let default = tokens::literal(&rest).ok_or_else(|| malformed(4))?;
    let name = name.value.to_lowercase();
    let value = match overrides.get(&name) {
        Some(value) => tokens::override_value(&name, &default, value)?,
        None => default,
    };
    Ok(Some((name, value)))
}

type Parsed<T> = Result<T, ParserError>;

fn statement(parser: &mut Parser) -> Parsed<Kind> {
    let kind = if parser.parse_keyword(Keyword::CREATE) {
        create(parser)?
    } else if parser.parse_keywords(&[Keyword::COMMENT, Keyword::ON]) {
        comment(parser)?
    } else if parser.parse_keyword(Keyword::EXPLAIN) {
        match parser.peek_token().token {
            Token::Word(w) if !matches!(w.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES) => {
                Kind::Explain(Explained::View(name(parser)?))
            }
            _ => Kind::Explain(Explained::Query(parser.parse_query()?)),
        }
    } else if parser.parse_keyword(Keyword::DROP) {
        drop(parser)?
    } else if parser.parse_keyword(Keyword::SET) {
        setting(parser)?
    } else if parser.parse_keyword(Keyword::SHOW) {
        Kind::Show(name(parser)?)
    } else {
        match parser.peek_token().token {
            Token::Word(w) if matches!(w.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES) => {
                Kind::Select(parser.parse_query()?)
            }
            Token::LParen => Kind::Select(parser.parse_query()?),
            Token::Word(w) if matches!(w.keyword, Keyword::INSERT | Keyword::UPDATE | Keyword::DELETE) => {
                change(parser)?
            }
            _ => {
                return parser.expected("a statement (CREATE, SET PARAMETER, COMMENT ON, SELECT)", parser.peek_token());
            }
        }
    };
    match parser.peek_token() {
        end if end.token == Token::EOF => Ok(kind),
        other => parser.expected("; or the end of the text", other),
    }
}

fn create(parser: &mut Parser) -> Parsed<Kind> {
    if word(parser, "source") {
        return source(parser);
    }
    if parser.parse_keyword(Keyword::INDEX) {
        if !parser.parse_keyword(Keyword::ON) {
            parser.parse_identifier()?;
            parser.expect_keyword_is(Keyword::ON)?;
        }
        let view = name(parser)?;
        let columns = parser.parse_parenthesized_column_list(IsOptional::Mandatory, false)?;
        return Ok(Kind::CreateIndex { view, columns: columns.iter().map(normal).collect() });
    }
    if parser.parse_keyword(Keyword::TABLE) {
        return table(parser);
    }
    if parser.parse_keyword(Keyword::FUNCTION) {
        return function(parser);
    }
    let materialized = parser.parse_keyword(Keyword::MATERIALIZED);
    if !parser.parse_keyword(Keyword::VIEW) {
        return parser.expected("SOURCE, VIEW, MATERIALIZED VIEW, TABLE, FUNCTION or INDEX", parser.peek_token());
    }
    let name = name(parser)?;
    let columns = parser.parse_parenthesized_column_list(IsOptional::Optional, false)?;
    let options = match materialized && parser.parse_keyword(Keyword::WITH) {
        true => view_options(parser)?,
        false => ViewOptions::default(),
    };
    parser.expect_keyword_is(Keyword::AS)?;
    let query = Arc::new(*parser.parse_query()?);
    Ok(Kind::CreateView { name, columns: columns.iter().map(normal).collect(), materialized, options, query })
}

/// `name (argument type, …) RETURNS type RETURN expression`
fn function(parser: &mut Parser) -> Parsed<Kind> {
    let name = name(parser)?;
    let mut arguments = vec![];
    parser.expect_token(&Token::LParen)?;
    while !parser.consume_token(&Token::RParen) {
        if !arguments.is_empty() {
            parser.expect_token(&Token::Comma)?;
        }
        arguments.push((normal(&parser.parse_identifier()?), parser.parse_data_type()?));
    }
    parser.expect_keyword_is(Keyword::RETURNS)?;
    let returns = parser.parse_data_type()?;
    let mut known = true;
    while known {
        known = parser.parse_keywords(&[Keyword::LANGUAGE, Keyword::SQL]) || parser.parse_keyword(Keyword::IMMUTABLE);
    }
    parser.expect_keyword_is(Keyword::RETURN)?;
    let body = parser.parse_expr()?;
    Ok(Kind::CreateFunction { name, function: Box::new(Function { arguments, returns, body }) })
}

/// `name = value` or `name TO value`, of which nothing is kept.
fn setting(parser: &mut Parser) -> Parsed<Kind> {
    let _ = parser.parse_one_of_keywords(&[Keyword::SESSION, Keyword::LOCAL]);
    name(parser)?;
    if !parser.consume_token(&Token::Eq) {
        parser.expect_keyword_is(Keyword::TO)?;
    }
    while !matches!(parser.peek_token().token, Token::EOF) {
        parser.next_token();
    }
    Ok(Kind::Set)
}

fn source(parser: &mut Parser) -> Parsed<Kind> {
    let name = name(parser)?;
    parser.expect_keyword_is(Keyword::FROM)?;
    let connector = parser.parse_identifier()?.value.to_uppercase();
    let options = match parser.peek_token().token == Token::LParen {
        true => settings(parser)?.into_iter().map(|(name, value, _)| (name, value)).collect(),
        false => Options::new(),
    };
    Ok(Kind::CreateSource { name, connector, options })
}

/// `(name = 'value', …)`: names, values as text, and where each name is.
fn settings(parser: &mut Parser) -> Parsed<Vec<(String, String, TokenWithSpan)>> {
    parser.expect_token(&Token::LParen)?;
    let mut settings: Vec<(String, String, TokenWithSpan)> = vec![];
    while !parser.consume_token(&Token::RParen) {
        if !settings.is_empty() {
            parser.expect_token(&Token::Comma)?;
        }
        let at = parser.peek_token();
        let name = parser.parse_identifier()?.value.to_lowercase();
        if settings.iter().any(|(n, ..)| *n == name) {
            return parser.expected(&format!("each setting once, and {name} is there already"), at);
        }
        parser.expect_token(&Token::Eq)?;
        let minus = if parser.consume_token(&Token::Minus) { "-" } else { "" };
        let value = match parser.next_token() {
            TokenWithSpan { token: Token::SingleQuotedString(value) | Token::Number(value, _), .. } => value,
            TokenWithSpan { token: Token::Word(w), .. } => w.value,
            other => return parser.expected("a value, as in name = 'value'", other),
        };
        settings.push((name, format!("{minus}{value}"), at));
    }
    Ok(settings)
}

fn view_options(parser: &mut Parser) -> Parsed<ViewOptions> {
    let mut options = ViewOptions::default();
    for (name, value, at) in settings(parser)? {
        match name.as_str() {
            "key" => options.key = Some(listed(&value)),
            "retain" => match super::duration_ms(&value) {
                Some(ms) => options.retain_ms = Some(ms),
                None => return parser.expected("retain to be a length of time, as in retain = '2 days'", at),
            },
            "retain_column" => options.retain_column = Some(value),
            "metrics" => options.metrics = Some(listed(&value)),
            "metrics_name" => options.metrics_name = Some(value),
            _ => {
                let known = "a setting of a view (key, retain, retain_column, metrics, metrics_name)";
                return parser.expected(known, at);
            }
        }
    }
    Ok(options)
}

/// `a, b`
fn listed(value: &str) -> Vec<String> {
    value.split(',').map(|column| column.trim().to_owned()).collect()
}

fn table(parser: &mut Parser) -> Parsed<Kind> {
    let ast::Statement::CreateTable(table) = wrapped(parser.parse_create_table(false, false, None, false))? else {
        return parser.expected("columns of a table", parser.peek_token());
    };
    let mut key = vec![];
    for constraint in &table.constraints {
        match constraint {
            TableConstraint::PrimaryKey(primary) => {
                key = primary.columns.iter().map(|c| c.column.expr.to_string().trim_matches('"').to_owned()).collect();
            }
            other => return Err(ParserError::ParserError(format!("{other} is not supported, only PRIMARY KEY is"))),
        }
    }
    for column in &table.columns {
        if column.options.iter().any(|o| matches!(o.option, ColumnOption::PrimaryKey(_))) {
            key = vec![normal(&column.name)];
        }
    }
    let mut options = Options::new();
    if let CreateTableOptions::With(given) = table.table_options {
        for option in given {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(ParserError::ParserError(format!("{option} is no setting of a table")));
            };
            options.insert(normal(&key), value.to_string().trim_matches('\'').to_owned());
        }
    }
    let (name, if_not_exists) = (object(&table.name), table.if_not_exists);
    Ok(Kind::CreateTable { if_not_exists, name, columns: table.columns, key, options })
}

fn comment(parser: &mut Parser) -> Parsed<Kind> {
    let of_column = parser.parse_keyword(Keyword::COLUMN);
    if !of_column {
        let _ = parser.parse_keyword(Keyword::MATERIALIZED);
        parser.expect_keyword_is(Keyword::VIEW)?;
    }
    let view = normal(&parser.parse_identifier()?);
    let column = match of_column {
        true => {
            parser.expect_token(&Token::Period)?;
            Some(normal(&parser.parse_identifier()?))
        }
        false => None,
    };
    parser.expect_keyword_is(Keyword::IS)?;
    let comment = match parser.parse_keyword(Keyword::NULL) {
        true => None,
        false => Some(parser.parse_literal_string()?),
    };
    Ok(Kind::Comment { view, column, comment })
}

fn drop(parser: &mut Parser) -> Parsed<Kind> {
    let what = if word(parser, "source") {
        "source"
    } else if parser.parse_keyword(Keyword::TABLE) {
        "table"
    } else if parser.parse_keyword(Keyword::FUNCTION) {
        "function"
    } else {
        let _ = parser.parse_keyword(Keyword::MATERIALIZED);
        parser.expect_keyword_is(Keyword::VIEW)?;
        "view"
    };
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    Ok(Kind::Drop { what: what.to_owned(), name: name(parser)?, if_exists })
}

fn change(parser: &mut Parser) -> Parsed<Kind> {
    let start = parser.peek_token();
    let unsupported = |parser: &Parser| parser.expected("INSERT, UPDATE or DELETE of one table, without more", start);
    match wrapped(parser.parse_statement())? {
        ast::Statement::Insert(insert) if insert.on.is_none() && insert.returning.is_none() => {
            let (TableObject::TableName(table), Some(query)) = (&insert.table, insert.source) else {
                return unsupported(parser);
            };
            let columns = insert.columns.iter().map(object).collect();
            Ok(Kind::Insert { table: object(table), columns, query })
        }
        ast::Statement::Update(update) if update.from.is_none() && update.returning.is_none() => {
            let TableFactor::Table { name, .. } = &update.table.relation else { return unsupported(parser) };
            let mut assignments = vec![];
            for assignment in update.assignments {
                let AssignmentTarget::ColumnName(column) = &assignment.target else { return unsupported(parser) };
                assignments.push((object(column), assignment.value));
            }
            Ok(Kind::Update { table: object(name), assignments, filter: update.selection })
        }
        ast::Statement::Delete(delete) if delete.using.is_none() && delete.returning.is_none() => {
            let FromTable::WithFromKeyword(from) = &delete.from else { return unsupported(parser) };
            let [table] = from.as_slice() else { return unsupported(parser) };
            let TableFactor::Table { name, .. } = &table.relation else { return unsupported(parser) };
            Ok(Kind::Delete { table: object(name), filter: delete.selection })
        }
        _ => unsupported(parser),
    }
}

/// The parser returns some nodes bare and some as statements, by version: both become statements.
fn wrapped(parsed: Parsed<impl Into<ast::Statement>>) -> Parsed<ast::Statement> {
    parsed.map(Into::into)
}

fn word(parser: &mut Parser, wanted: &str) -> bool {
    let found = matches!(parser.peek_token().token, Token::Word(w) if w.value.eq_ignore_ascii_case(wanted));
    if found {
        parser.next_token();
    }
    found
}

fn name(parser: &mut Parser) -> Parsed<String> {
    Ok(object(&parser.parse_object_name(false)?))
}

pub(super) fn object(name: &ObjectName) -> String {
    let parts: Vec<String> = name.0.iter().map(|p| p.as_ident().map(normal).unwrap_or_else(|| p.to_string())).collect();
    parts.join(".")
}

pub(super) fn normal(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

/// The parser writes the place of an error behind its message.
fn positioned(text: &str, tokens: &[TokenWithSpan], error: &ParserError) -> SqlError {
    let (ParserError::ParserError(message) | ParserError::TokenizerError(message)) = error else {
        return SqlError::new("the statement is nested too deeply", None);
    };
    let (message, place) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => {
            let mut numbers = place.split(", Column: ").filter_map(|n| n.trim().parse::<usize>().ok());
            (message, numbers.next().zip(numbers.next()))
        }
        None => (message.as_str(), None),
    };
    let at = |t: &&TokenWithSpan| place == Some((t.span.start.line as usize, t.span.start.column as usize));
    let token = tokens.iter().rev().find(|t| t.token != Token::EOF && at(t)).or(tokens.last());
    let place = token.map(tokens::place).unwrap_or(Place::default());
    let message =
        message.replacen("Expected: ", "expected ", 1).replace(", found: EOF", ", found the end of the statement");
    SqlError::new(lower_first(&message.replacen(", found: ", ", found ", 1)), None).at(text, place)
}
