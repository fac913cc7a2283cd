//! A table of the shell: rows in the order in which they came.

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, partition};
use arrow::datatypes::{DataType, SchemaRef};
use hashbrown::{HashMap, HashSet};
use velib_operators::{Row, RowCodec};

use super::{Changes, text};
use crate::source::{Options, Relation, Resolved};

/// Batches beyond this many are made one.
const BATCHES: usize = 256;

/// Rows, and the rules for them.
#[derive(Debug)]
pub(super) struct Table {
    schema: SchemaRef,
    key: Vec<usize>,
    appended: bool,
    time_column: Option<usize>,
    batches: Vec<RecordBatch>,
    keys: HashSet<Row, ahash::RandomState>,
}

impl Table {
    /// An empty one. `WITH (append_only = true)`: rows only come; `WITH (time = 'column')`: and each
    /// `INSERT` has one value of the column, which never decreases.
    pub fn new(schema: SchemaRef, key: Vec<usize>, options: &Options) -> Result<Self, String> {
        let (mut appended, mut time_column) = (false, None);
        for (name, value) in options {
            match name.as_str() {
                "append_only" => appended = value.eq_ignore_ascii_case("true"),
                "time" => {
                    let at = schema.index_of(value).map_err(|_| format!("column {value:?} does not exist"))?;
                    if !matches!(schema.field(at).data_type(), DataType::Timestamp(..)) {
                        return Err(format!("column {value:?} is no timestamp, so it does not tell a row's time"));
                    }
                    (appended, time_column) = (true, Some(at));
                }
                other => return Err(format!("{other:?} is no setting of a table: there are append_only and time")),
            }
        }
        Ok(Table { schema, key, appended, time_column, batches: vec![], keys: HashSet::default() })
    }

    /// Its columns.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Its rows.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Its rows as they came, as far as a view can tell: those of each time together, where one column
    /// tells the time.
    pub fn moments(&self) -> Vec<RecordBatch> {
        let Some(at) = self.time_column else { return self.batches.clone() };
        let mut moments = vec![];
        for rows in &self.batches {
            let times = partition(&[rows.column(at).clone()]).expect("times are comparable");
            moments.extend(times.ranges().into_iter().map(|range| rows.slice(range.start, range.len())));
        }
        moments
    }

    /// What it is to a job that reads it: a source with one relation.
    pub fn offers(&self) -> Resolved {
        let relation = Relation {
            name: String::new(),
            schema: self.schema.clone(),
            key: self.key.clone(),
            appended: self.appended,
            time_column: self.time_column,
        };
        Resolved { relations: vec![relation], zones: None }
    }

    /// Moves rows in and out, all or none.
    ///
    /// # Errors
    /// Which rule the rows break.
    pub fn apply(&mut self, name: &str, changes: &Changes) -> Result<(), String> {
        if self.appended {
            self.check_appended(name, changes)?;
        }
        self.move_keys(name, changes)?;
        for (rows, diff) in changes {
            match diff {
                1.. => self.batches.push(rows.clone()),
                _ => self.remove(rows)?,
            }
        }
        if self.batches.len() > BATCHES {
            self.batches = vec![concat_batches(&self.schema, &self.batches).map_err(|e| e.to_string())?];
        }
        Ok(())
    }

    fn check_appended(&self, name: &str, changes: &Changes) -> Result<(), String> {
        if changes.iter().any(|(_, diff)| *diff < 0) {
            return Err(format!("table {name} is append-only: its rows stay as they are"));
        }
        let Some(at) = self.time_column else { return Ok(()) };
        let column = self.schema.field(at).name();
        let last = self.batches.last().map(|rows| rows.column(at).slice(rows.num_rows() - 1, 1));
        let new: Vec<ArrayRef> = changes.iter().map(|(rows, _)| rows.column(at).clone()).collect();
        let codec = RowCodec::new([self.schema.field(at).data_type()]).map_err(|e| e.to_string())?;
        let mut before = match last {
            None => None,
            Some(last) => codec.encode(&[last], 1).map_err(|e| e.to_string())?.pop(),
        };
        let mut first = None;
        for column_of_new in new {
            if column_of_new.null_count() > 0 {
                return Err(format!("column {column} of {name} tells the time, and null is none"));
            }
            for row in
                codec.encode(std::slice::from_ref(&column_of_new), column_of_new.len()).map_err(|e| e.to_string())?
            {
                if first.get_or_insert_with(|| row.clone()) != &row {
                    return Err(format!("column {column} of {name} has one value in all rows of an INSERT"));
                }
                if before.take().is_some_and(|before| row < before) {
                    return Err(format!("column {column} of {name} never decreases"));
                }
            }
        }
        Ok(())
    }

    /// Checks that no key comes twice, and remembers those that are there.
    fn move_keys(&mut self, name: &str, changes: &Changes) -> Result<(), String> {
        let mut removed: HashSet<Row, ahash::RandomState> = HashSet::default();
        let mut added: HashSet<Row, ahash::RandomState> = HashSet::default();
        for (rows, _) in changes.iter().filter(|(_, diff)| *diff < 0) {
            removed.extend(self.keys_of(rows)?);
        }
        for (rows, _) in changes.iter().filter(|(_, diff)| *diff > 0) {
            for (row, key) in self.keys_of(rows)?.into_iter().enumerate() {
                if self.keys.contains(&key) && !removed.contains(&key) || !added.insert(key) {
                    return Err(format!(
                        "duplicate key value violates unique constraint \"{name}_pkey\": key {} already exists",
                        self.describe(rows, row)
                    ));
                }
            }
        }
        for key in &removed {
            self.keys.remove(key);
        }
        self.keys.extend(added);
        Ok(())
    }

    /// The keys of `rows`; none where the table has no key.
    fn keys_of(&self, rows: &RecordBatch) -> Result<Vec<Row>, String> {
        if self.key.is_empty() {
            return Ok(vec![]);
        }
        let columns: Vec<ArrayRef> = self.key.iter().map(|i| rows.column(*i).clone()).collect();
        let codec = RowCodec::new(columns.iter().map(|c| c.data_type())).map_err(|e| e.to_string())?;
        codec.encode(&columns, rows.num_rows()).map_err(|e| e.to_string())
    }

    fn describe(&self, rows: &RecordBatch, row: usize) -> String {
        let names: Vec<&str> = self.key.iter().map(|i| self.schema.field(*i).name().as_str()).collect();
        let values: Vec<String> =
            self.key.iter().map(|i| text::value(rows.column(*i), row).unwrap_or_default()).collect();
        format!("({})=({})", names.join(", "), values.join(", "))
    }

    /// Takes one copy of each of `rows` out.
    fn remove(&mut self, rows: &RecordBatch) -> Result<(), String> {
        let codec = RowCodec::new(self.schema.fields().iter().map(|f| f.data_type())).map_err(|e| e.to_string())?;
        let encode = |rows: &RecordBatch| codec.encode(rows.columns(), rows.num_rows()).map_err(|e| e.to_string());
        let mut going: HashMap<Row, usize, ahash::RandomState> = HashMap::default();
        for row in encode(rows)? {
            *going.entry(row).or_default() += 1;
        }
        let mut kept = vec![];
        for batch in std::mem::take(&mut self.batches) {
            let stays = |row: Row| match going.get_mut(&row) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    false
                }
                _ => true,
            };
            let mask: BooleanArray = encode(&batch)?.into_iter().map(stays).map(Some).collect();
            let rest = match mask.true_count() == mask.len() {
                true => batch,
                false => filter_record_batch(&batch, &mask).map_err(|e| e.to_string())?,
            };
            kept.extend((rest.num_rows() > 0).then_some(rest));
        }
        self.batches = kept;
        Ok(())
    }
}
