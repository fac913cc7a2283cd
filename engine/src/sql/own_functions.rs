//! `CREATE FUNCTION name (argument type, …) RETURNS type RETURN expression`: scalar functions of one's own, put in the
//! place of their calls before a query is planned, so that they cost what they stand for.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Visit, VisitMut, Visitor, VisitorMut,
};

use super::error::refuse;

/// A function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Names and types of its arguments.
    pub arguments: Vec<(String, DataType)>,
    /// The type of its value.
    pub returns: DataType,
    /// Its value, in terms of its arguments and of functions above.
    pub body: Expr,
}

/// Those that a query may call.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnFunctions(BTreeMap<String, Function>);

/// Expressions that a call may come to, and how many of them in each other.
const MAX_SIZE: usize = 16_384;
const MAX_DEPTH: usize = 128;

impl OwnFunctions {
    /// Adds a function, with those that it calls put in place.
    ///
    /// # Errors
    /// It calls one with other arguments, or a call comes to too much.
    pub fn add(&mut self, name: &str, mut function: Function) -> Result<(), DataFusionError> {
        self.expand(&mut function.body)?;
        self.0.insert(name.to_owned(), function);
        Ok(())
    }

    /// Puts functions in the place of their calls.
    ///
    /// # Errors
    /// A call with other arguments than the function has, or that comes to too much.
    pub fn expand(&self, node: &mut impl VisitMut) -> Result<(), DataFusionError> {
        if self.0.is_empty() {
            return Ok(());
        }
        match VisitMut::visit(node, &mut Expand(self)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }
}

struct Expand<'a>(&'a OwnFunctions);

impl VisitorMut for Expand<'_> {
    type Break = DataFusionError;

    // Arguments first: what is put in place has no calls any more.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<DataFusionError> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let name = super::parse::object(&call.name);
        let Some(function) = self.0.0.get(&name) else { return ControlFlow::Continue(()) };
        let given: Vec<Expr> = match &call.args {
            FunctionArguments::List(list) => list.args.iter().filter_map(argument).collect(),
            _ => vec![],
        };
        if given.len() != function.arguments.len() {
            let names: Vec<String> = function.arguments.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
            let hint = format!("write {name}({})", names.join(", "));
            return ControlFlow::Break(refuse(format!("{name} has {} arguments", names.len()), &hint, &name));
        }
        let values: BTreeMap<&str, Expr> = function
            .arguments
            .iter()
            .zip(given)
            .map(|((name, kind), value)| (name.as_str(), cast(value, kind)))
            .collect();
        let mut body = function.body.clone();
        // Nothing in it fails.
        let _ = VisitMut::visit(&mut body, &mut Fill(&values));
        let mut size = Size::default();
        let _ = Visit::visit(&body, &mut size);
        if size.count > MAX_SIZE || size.deepest > MAX_DEPTH {
            let hint = "compute what it is called with in a view or a subquery first";
            return ControlFlow::Break(refuse(
                format!("a call of {name} comes to too large an expression"),
                hint,
                &name,
            ));
        }
        *expr = cast(body, &function.returns);
        ControlFlow::Continue(())
    }
}

fn argument(argument: &FunctionArg) -> Option<Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

fn cast(expr: Expr, kind: &DataType) -> Expr {
    let expr = Box::new(Expr::Nested(Box::new(expr)));
    Expr::Cast { kind: CastKind::Cast, expr, data_type: kind.clone(), array: false, format: None }
}

/// Puts values in the place of arguments.
struct Fill<'a>(&'a BTreeMap<&'a str, Expr>);

impl VisitorMut for Fill<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && let Some(value) = self.0.get(super::parse::normal(name).as_str())
        {
            *expr = value.clone();
        }
        ControlFlow::Continue(())
    }
}

/// How many expressions there are, and how many in each other.
#[derive(Default)]
struct Size {
    count: usize,
    depth: usize,
    deepest: usize,
}

impl Visitor for Size {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.count += 1;
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}
