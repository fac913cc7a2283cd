//! How deeply a statement may be nested, and the stack to plan it on.
//!
//! The parser, DataFusion and the operators walk expressions and plans by recursion, so what is nested without end
//! would end the process. A chain (`a AND b AND …`, `a UNION ALL b …`, `a JOIN b …`) is nested, too: each operator
//! holds all before it.

use std::panic::resume_unwind;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use velib_operators::Expr;

use super::error::SqlError;
use super::tokens::place;
use crate::plan::Node;

/// Operators, joins and parentheses in each other.
const MAX_DEPTH: usize = 256;

/// Operators and expressions of a plan in each other.
const MAX_PLAN: usize = 400;

/// Bytes of stack for planning. A level takes up to 40 KiB where nothing is optimised.
const STACK: usize = 256 << 20;

/// Refuses what is nested too deeply.
///
/// # Errors
/// The first place that is too deep.
pub(super) fn check(text: &str, tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let mut levels = vec![Level::default()];
    for (at, token) in tokens.iter().enumerate() {
        let level = levels.last_mut().expect("the outermost is never closed");
        match &token.token {
            Token::LParen | Token::LBracket => levels.push(Level::default()),
            Token::RParen | Token::RBracket => close(&mut levels),
            Token::Comma if !level.lists_relations => level.end_part(),
            Token::Comma => level.relations += 1,
            Token::Word(word) => match word.keyword {
                Keyword::CASE => levels.push(Level::default()),
                Keyword::END => close(&mut levels),
                Keyword::AND | Keyword::OR | Keyword::NOT | Keyword::IS | Keyword::LIKE => level.operators += 1,
                Keyword::JOIN | Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT => {
                    level.end_part();
                    level.relations += 1;
                }
                Keyword::WITH
                | Keyword::FROM
                | Keyword::SELECT
                | Keyword::WHERE
                | Keyword::GROUP
                | Keyword::HAVING
                | Keyword::ORDER => {
                    level.end_part();
                    level.lists_relations = matches!(word.keyword, Keyword::FROM | Keyword::WITH);
                }
                Keyword::ON | Keyword::WHEN | Keyword::THEN | Keyword::ELSE => level.end_part(),
                _ => {}
            },
            Token::Whitespace(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Period => {}
            // All else is an operator.
            _ => level.operators += 1,
        }
        let level = levels.last().expect("the outermost is never closed");
        if levels.len() > MAX_DEPTH || level.depth() > MAX_DEPTH {
            let hint =
                "join fewer by AND, OR, + or UNION in one expression: use IN (…), a table of constants, or views";
            let message = format!("the statement is nested too deeply: more than {MAX_DEPTH} operators in each other");
            return Err(SqlError::new(message, Some(hint.to_owned())).at(text, place(&tokens[at])));
        }
    }
    Ok(())
}

/// Ends the innermost level, if it is not the outermost.
fn close(levels: &mut Vec<Level>) {
    if levels.len() > 1 {
        let inner = levels.pop().map(|level| level.depth()).unwrap_or_default();
        let level = levels.last_mut().expect("one more was open");
        level.inner = level.inner.max(inner + 1);
    }
}

/// Whether a plan, with the views that it is made of, is nested too deeply for workers to build it. Each counts the
/// expressions that it computes of one another.
pub(super) fn is_too_deep(node: &Node) -> bool {
    fn of_expr(expr: &Expr) -> usize {
        1 + expr.children().into_iter().map(of_expr).max().unwrap_or(0)
    }
    fn of_node(node: &Node) -> usize {
        let own = match node {
            Node::Map(map) => map.outputs.iter().flatten().chain(&map.predicates).map(of_expr).max().unwrap_or(0),
            _ => 0,
        };
        own.max(1) + node.children().into_iter().map(of_node).max().unwrap_or(0)
    }
    of_node(node) > MAX_PLAN
}

/// What is between two parentheses, or `CASE` and `END`.
#[derive(Default)]
struct Level {
    /// Of the part that is being read.
    operators: usize,
    /// The deepest parentheses in it.
    inner: usize,
    /// Of the parts before.
    deepest: usize,
    relations: usize,
    lists_relations: bool,
}

impl Level {
    fn end_part(&mut self) {
        self.deepest = self.deepest.max(self.operators + self.inner);
        (self.operators, self.inner) = (0, 0);
    }

    fn depth(&self) -> usize {
        self.deepest.max(self.operators + self.inner) + self.relations
    }
}

/// Does `work` with enough stack for all that [`check`] lets through.
pub(super) fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("plan".into()).stack_size(STACK).spawn_scoped(scope, work);
        // Without threads, a process can do nothing of what it is for.
        let joined = thread.expect("the system has a thread to plan on").join();
        joined.unwrap_or_else(|panic| resume_unwind(panic))
    })
}
