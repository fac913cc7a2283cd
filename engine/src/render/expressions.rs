//! Stateful operators work on columns: expressions that are none are computed beforehand, beside them.

use std::any::Any;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::{Column, case};
use velib_operators::map::{Program, map};
use velib_operators::{Errors, Expr, Rows};

/// The columns that an operator needs: those of its input, and expressions over them.
pub struct Columns {
    input: SchemaRef,
    outputs: Vec<Expr>,
    fields: Vec<Field>,
}

impl Columns {
    /// All the columns of `input`, then what is added.
    pub fn of(input: &SchemaRef) -> Self {
        let mut columns = Self::none(input);
        for (i, field) in input.fields().iter().enumerate() {
            columns.append(Arc::new(Column::new(field.name(), i)));
        }
        columns
    }

    /// None of the columns of `input`, only what is added.
    pub fn none(input: &SchemaRef) -> Self {
        Columns { input: input.clone(), outputs: vec![], fields: vec![] }
    }

    /// The columns of these numbers.
    pub fn kept(columns: &[usize]) -> Vec<Expr> {
        columns.iter().map(|at| Arc::new(Column::new("", *at)) as Expr).collect()
    }

    /// Adds `expr` as a column of its own, and tells where.
    pub fn append(&mut self, expr: Expr) -> usize {
        let kind = expr.data_type(&self.input).expect("the planner typed it");
        self.fields.push(Field::new(format!("{expr}"), kind, true));
        self.outputs.push(expr);
        self.outputs.len() - 1
    }

    /// Where `expr` stands, added if it is not there yet.
    pub fn place(&mut self, expr: &Expr) -> usize {
        match self.outputs.iter().position(|output| output == expr) {
            Some(i) => i,
            None => self.append(expr.clone()),
        }
    }

    /// Where the expressions of an order stand, each with its direction.
    pub fn order(&mut self, order: &[PhysicalSortExpr]) -> Vec<(usize, SortOptions)> {
        order.iter().map(|by| (self.place(&by.expr), by.options)).collect()
    }

    /// Computes the columns.
    pub fn evaluate<'scope>(
        self,
        input: Rows<'scope>,
        name: &str,
        errors: &mut Errors<'scope>,
    ) -> (Rows<'scope>, SchemaRef) {
        let as_is = self.outputs.len() == self.input.fields().len()
            && self.outputs.iter().enumerate().all(|(i, expr)| column(expr) == Some(i));
        if as_is {
            return (input, self.input);
        }
        let schema = Arc::new(Schema::new(self.fields));
        let program = Program { predicates: vec![], outputs: Some(self.outputs), schema: schema.clone() };
        (map(input, name, program, errors), schema)
    }
}

/// The index of the column that `expr` is, if it is one.
fn column(expr: &Expr) -> Option<usize> {
    let expr: &dyn Any = expr.as_ref();
    expr.downcast_ref::<Column>().map(Column::index)
}

/// `expr`, or null where `filter` is not true: then `expr` is not even computed.
pub fn only_where(filter: &Option<Expr>, expr: &Expr) -> Expr {
    match filter {
        Some(filter) if column(expr).is_none() => {
            case(None, vec![(filter.clone(), expr.clone())], None).expect("a boolean and a value")
        }
        _ => expr.clone(),
    }
}
