//! A text as tokens with their places: split into statements, parameters filled in.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

use super::error::{Place, SqlError, did_you_mean};

/// The dialect of all texts.
pub(crate) const DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// Parameters and the tokens that stand for them.
pub(crate) type Parameters = BTreeMap<String, Vec<Token>>;

/// The statements of `text`, each ending with [`Token::EOF`], none without a word.
///
/// # Errors
/// A character or quote that is no token.
pub(crate) fn split(text: &str) -> Result<Vec<Vec<TokenWithSpan>>, SqlError> {
    let tokens = Tokenizer::new(&DIALECT, text).tokenize_with_location().map_err(|e| {
        let place = Place { line: e.location.line as usize, column: e.location.column as usize, width: 1 };
        SqlError::new(super::error::lower_first(&e.message), None).at(text, place)
    })?;
    let mut statements = vec![vec![]];
    for token in tokens {
        let last = statements.last_mut().expect("there is always one");
        match token.token {
            Token::SemiColon => {
                last.push(TokenWithSpan { token: Token::EOF, span: token.span });
                statements.push(vec![]);
            }
            Token::EOF => {}
            _ => last.push(token),
        }
    }
    statements.retain(|s| s.iter().any(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)));
    for statement in &mut statements {
        let end = statement.last().expect("a statement has a token").clone();
        if end.token != Token::EOF {
            statement.push(TokenWithSpan { token: Token::EOF, span: end.span });
        }
    }
    Ok(statements)
}

/// Nothing but blanks, comments and `;`.
pub fn is_blank(text: &str) -> bool {
    split(text).is_ok_and(|statements| statements.is_empty())
}

/// Where the statements of `text` end: the bytes behind each `;` that is one. What follows the last may be
/// the beginning of a statement.
pub fn ends(text: &str) -> Vec<usize> {
    let mut tokens = vec![];
    // A text that breaks off within a quote or a comment is as good as it goes.
    let _ = Tokenizer::new(&DIALECT, text).tokenize_with_location_into_buf(&mut tokens);
    let mut lines = text.split_inclusive('\n');
    let (mut line, mut start, mut current) = (1, 0, lines.next().unwrap_or_default());
    let mut ends = vec![];
    for token in tokens.iter().filter(|t| t.token == Token::SemiColon) {
        while line < token.span.start.line {
            start += current.len();
            current = lines.next().unwrap_or_default();
            line += 1;
        }
        let column = token.span.start.column as usize;
        let within: usize = current.chars().take(column).map(char::len_utf8).sum();
        ends.push(start + within);
    }
    ends
}

/// Puts the values of parameters in the place of `$name`.
///
/// # Errors
/// A parameter that is not set above.
pub(crate) fn substitute(
    text: &str,
    statement: Vec<TokenWithSpan>,
    parameters: &Parameters,
) -> Result<Vec<TokenWithSpan>, SqlError> {
    let mut out = Vec::with_capacity(statement.len());
    for token in statement {
        let Token::Placeholder(placeholder) = &token.token else {
            out.push(token);
            continue;
        };
        let name = placeholder.trim_start_matches('$').to_lowercase();
        let Some(value) = parameters.get(&name) else {
            let hint = did_you_mean(&name, parameters.keys().map(String::as_str))
                .unwrap_or_else(|| format!("set it above, as in SET PARAMETER {name} = 0.1;"));
            return Err(SqlError::new(format!("no parameter ${name}"), Some(hint)).at(text, place(&token)));
        };
        out.extend(value.iter().map(|value| TokenWithSpan { token: value.clone(), span: token.span }));
    }
    Ok(out)
}

/// The tokens of an overriding value: of the same kind as the default's.
///
/// # Errors
/// A value that is not of the default's kind.
pub(crate) fn override_value(name: &str, default: &[Token], value: &str) -> Result<Vec<Token>, SqlError> {
    let wrong = |kind: &str| SqlError::new(format!("parameter {name} is a {kind}, and {value:?} is none"), None);
    match default.iter().find(|t| !matches!(t, Token::LParen | Token::Minus)) {
        Some(Token::Number(..)) => {
            let number: f64 = value.parse().map_err(|_| wrong("number"))?;
            let digits = Token::Number(value.trim_start_matches(['-', '+']).to_owned(), false);
            if !number.is_finite() {
                return Err(wrong("number"));
            }
            Ok(if value.starts_with('-') { negative(digits) } else { vec![digits] })
        }
        Some(Token::Word(_)) => match value.to_lowercase().as_str() {
            truth @ ("true" | "false") => Ok(vec![Token::make_keyword(truth)]),
            _ => Err(wrong("boolean")),
        },
        _ => Ok(vec![Token::SingleQuotedString(value.to_owned())]),
    }
}

/// The literal behind `SET PARAMETER name =`, as tokens; `None` if it is none.
pub(crate) fn literal(tokens: &[TokenWithSpan]) -> Option<Vec<Token>> {
    let tokens: Vec<&Token> =
        tokens.iter().map(|t| &t.token).filter(|t| !matches!(t, Token::Whitespace(_) | Token::EOF)).collect();
    match tokens.as_slice() {
        [value @ (Token::Number(..) | Token::SingleQuotedString(_))] => Some(vec![(*value).clone()]),
        [Token::Minus, value @ Token::Number(..)] => Some(negative((*value).clone())),
        [Token::Word(Word { keyword: Keyword::TRUE | Keyword::FALSE, .. })] => Some(vec![tokens[0].clone()]),
        _ => None,
    }
}

fn negative(number: Token) -> Vec<Token> {
    vec![Token::LParen, Token::Minus, number, Token::RParen]
}

/// Where a token is.
pub(crate) fn place(token: &TokenWithSpan) -> Place {
    let Location { line, column } = token.span.start;
    let end = token.span.end;
    let width = if end.line == line { end.column.saturating_sub(column) as usize } else { 1 };
    Place { line: line as usize, column: column as usize, width: width.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_outside_of_quotes_and_comments() {
        let text = "SELECT 'é;' AS \"a;b\"; -- no; not here\n/* nor; here */ SELECT\n  2 ;SELECT 'open;";
        let found: Vec<&str> =
            ends(text).into_iter().scan(0, |from, to| Some(&text[std::mem::replace(from, to)..to])).collect();
        assert_eq!(found, ["SELECT 'é;' AS \"a;b\";", " -- no; not here\n/* nor; here */ SELECT\n  2 ;"]);
        assert_eq!(ends("SELECT 1\n").len(), 0);
    }
}
