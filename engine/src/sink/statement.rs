//! The statements that move a view's table: rows come as arrays, one a column.
//!
//! Arrays, and not a staging table: for batches of the sizes that a feed makes they take half the time,
//! and for large ones no more (`docs/adr/0007-sink-arrays-not-staging.md`).

use super::table::{MULTIPLICITY, Table};
use crate::postgres::identifier;

/// A statement on the table of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Removes rows; of counted ones, those of which no copy is left.
    Remove,
    /// Takes copies away from counted rows.
    Lessen,
    /// Inserts rows that are not there.
    Insert,
    /// Puts rows in the place of those with their keys; adds copies to counted ones.
    Upsert,
}

impl Kind {
    /// Its text for `table`.
    pub fn text(self, table: &Table) -> String {
        let path = table.path();
        let count = identifier(MULTIPLICITY);
        let mut given = table.identifying();
        given.extend(table.multiplicity.then_some(table.columns.len() - 1));
        let same = |c: usize| format!("t.{0} = s.{0}", identifier(&table.columns[c].name));
        let same = table.identifying().into_iter().map(same).collect::<Vec<_>>().join(" AND ");
        match self {
            Kind::Remove => {
                let gone = if table.multiplicity { format!(" AND t.{count} <= s.{count}") } else { String::new() };
                format!("DELETE FROM {path} t USING {} WHERE {same}{gone}", arrays(table, &given))
            }
            Kind::Lessen => {
                let from = arrays(table, &given);
                format!("UPDATE {path} t SET {count} = t.{count} - s.{count} FROM {from} WHERE {same}")
            }
            Kind::Insert => insert(table, &arrays(table, &(0..table.columns.len()).collect::<Vec<_>>())),
            Kind::Upsert => {
                let insert = insert(table, &arrays(table, &(0..table.columns.len()).collect::<Vec<_>>()));
                if table.multiplicity {
                    let key = table.list(table.identifying(), str::to_string);
                    format!("{insert} ON CONFLICT ({key}) DO UPDATE SET {count} = t.{count} + excluded.{count}")
                } else {
                    format!("{insert} {}", replace(table))
                }
            }
        }
    }
}

/// Inserts all columns of `from`, which is called `s`.
pub(super) fn insert(table: &Table, from: &str) -> String {
    let (into, all) = (table.all(str::to_string), table.all(|c| format!("s.{c}")));
    format!("INSERT INTO {} AS t ({into}) SELECT {all} FROM {from}", table.path())
}

/// The clause that puts inserted rows in the place of those they conflict with.
pub(super) fn replace(table: &Table) -> String {
    let key = table.identifying();
    let others: Vec<usize> = (0..table.columns.len()).filter(|c| !key.contains(c)).collect();
    let key = table.list(key, str::to_string);
    if others.is_empty() {
        return format!("ON CONFLICT ({key}) DO NOTHING");
    }
    format!("ON CONFLICT ({key}) DO UPDATE SET {}", table.list(others, |c| format!("{c} = excluded.{c}")))
}

/// Columns of the table as parameters, called `s`.
fn arrays(table: &Table, columns: &[usize]) -> String {
    let array = |(i, c): (usize, &usize)| format!("${}::{}[]", i + 1, table.columns[*c].kind.element());
    let arrays: Vec<_> = columns.iter().enumerate().map(array).collect();
    format!("unnest({}) AS s({})", arrays.join(", "), table.list(columns.iter().copied(), str::to_string))
}
