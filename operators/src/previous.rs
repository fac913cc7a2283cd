//! Each row beside the row before it: `lag(…) OVER (PARTITION BY … ORDER BY time)` on rows that arrive in
//! order of time and are never taken back. What is held is one row a partition, however long the history.
//!
//! Whole columns are worked on: rows are found in the batch or among what is held by their places, and copied once.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, UInt32Array, make_comparator, new_null_array,
};
use arrow::compute::{SortOptions, concat_batches, interleave};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_row::{RowConverter, SortField};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concat, Operator};

use crate::checkpoint::{Keep, PIECE, both, pack};
use crate::exchange::{Piece, part};
use crate::held::{Held, Hold, estimate};
use crate::map::{batch, take_rows};
use crate::places::Places;
use crate::stash::Stash;
use crate::{Row, Rows, Updates, held};

/// Which columns of the input are what.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The columns of the input.
    pub schema: SchemaRef,
    /// The first so many of them are passed on.
    pub columns: usize,
    /// Rows that are equal in these follow one another.
    pub partition: Vec<usize>,
    /// By what; equal ones, by the columns that are passed on.
    pub order: usize,
    /// What is carried over from the row before.
    pub lags: Vec<usize>,
}

/// The first columns of `input`, then the lags of the row before in the partition; nulls at a partition's first row.
/// What is held can be saved and restored: see [`Keep`].
///
/// # Panics
/// If a row is taken back.
pub fn previous<'scope>(
    input: Rows<'scope>,
    name: &str,
    layout: Layout,
    schema: SchemaRef,
    keep: Keep<'scope>,
) -> Rows<'scope> {
    let workers = input.scope().worker().peers() as u64;
    let (encode, by) = (format!("{name}.part"), layout.clone());
    let pieces = input.unary::<CapacityContainerBuilder<Vec<Arriving>>, _, _, _>(Pipeline, &encode, move |_, _| {
        let keys = converter(&by.schema, &by.partition);
        move |input, output| {
            input.for_each(|capability, data| {
                let mut session = output.session(&capability);
                for updates in data.drain(..) {
                    let columns = pick(&updates.rows, &by.partition);
                    let keys = keys.as_ref().filter(|_| workers > 1);
                    let keys = keys.map(|keys| keys.convert_columns(&columns).expect("columns of the layout"));
                    let pieces = part(updates, keys.as_ref().map(|keys| keys.iter()), workers);
                    session.give_iterator(pieces.into_iter().map(Arriving::Rows));
                }
            });
        }
    });
    let pieces = match keep.restored::<Piece>(&format!("{name}.restore")) {
        Some(restored) => pieces.concat(restored.flat_map(move |Piece { rows, diffs, .. }| {
            let keys = rows.column(0).as_binary::<i32>().clone();
            let keys = keys.iter().map(|key| key.unwrap_or_default());
            let pieces = part(Updates::new(0, rows.clone(), diffs), Some(keys), workers);
            pieces.into_iter().map(Arriving::Restored).collect::<Vec<_>>()
        })),
        None => pieces,
    };
    let (told, mut marks) = keep.split(pieces.scope());
    let route = Exchange::new(|(Arriving::Rows(piece) | Arriving::Restored(piece)): &Arriving| piece.worker);
    let named = name.to_owned();
    pieces.binary_frontier::<_, CapacityContainerBuilder<Vec<Updates>>, _, _, _, _>(
        told,
        route,
        Pipeline,
        name,
        move |_, _| {
            let mut stash: Stash<Arriving> = Stash::default();
            let last = Rc::new(RefCell::new(Last::new(layout)));
            held::register(&named, &last);
            move |(input, frontier), (told, told_frontier), output| {
                let mut last = last.borrow_mut();
                input.for_each(|capability, data| {
                    let time = *capability.least().expect("a message has a time");
                    stash.put(time, data, || capability.retain_least(0).expect("a message has a time"));
                });
                told.for_each(|capability, data| {
                    marks.hear(data, || capability.retain_least(0).expect("a message has a time"));
                });
                let frontier = &both(frontier, told_frontier);
                if frontier.is_empty() {
                    marks.clear();
                }
                loop {
                    while marks.due(stash.first(), frontier) {
                        marks.keep(last.save());
                    }
                    let Some((capability, arriving)) = stash.next_closed(frontier) else { break };
                    let mut pieces = vec![];
                    for arriving in arriving {
                        match arriving {
                            Arriving::Rows(piece) => pieces.push(piece),
                            Arriving::Restored(piece) => last.restore(&piece.rows),
                        }
                    }
                    if !pieces.is_empty() {
                        let columns = last.step(&pieces);
                        let (rows, diffs) = (columns[0].len(), Int64Array::from_value(1, columns[0].len()));
                        let updates = Updates::new(*capability.time(), batch(&schema, columns, rows), diffs);
                        output.session(&capability).give(updates);
                    }
                }
            }
        },
    )
}

/// What comes to the worker that holds a partition.
#[derive(Clone, Serialize, Deserialize)]
enum Arriving {
    Rows(Piece),
    /// Keys of partitions, and what their last rows carry over.
    Restored(Piece),
}

fn pick(rows: &RecordBatch, columns: &[usize]) -> Vec<ArrayRef> {
    columns.iter().map(|i| rows.column(*i).clone()).collect()
}

/// Encodes columns to be compared; none has nothing to encode.
fn converter(schema: &SchemaRef, columns: &[usize]) -> Option<RowConverter> {
    let fields = columns.iter().map(|i| SortField::new(schema.field(*i).data_type().clone())).collect();
    (!columns.is_empty()).then(|| RowConverter::new(fields).expect("the planner checked the types"))
}

/// The last row of each partition: what the next one sees of it.
struct Last {
    layout: Layout,
    keys: Option<RowConverter>,
    kinds: Vec<DataType>,
    /// Of the partitions.
    places: Places,
    partitions: Vec<Partition>,
    /// Rows of the lags' columns, a batch a timestamp; those of which nothing is needed any more are gone.
    chunks: Vec<Option<Chunk>>,
}

struct Partition {
    /// Where its last row is.
    last: Option<(u32, u32)>,
    /// Its place among those that the timestamp at hand changes.
    touched: u32,
}

impl Default for Partition {
    fn default() -> Self {
        Partition { last: None, touched: NONE }
    }
}

struct Chunk {
    columns: Vec<ArrayRef>,
    rows: usize,
    /// How many of the rows are a partition's last.
    live: usize,
}

/// What is held is put together when it is in more pieces than this and twice as large as need be.
const CHUNKS: usize = 8;

const NONE: u32 = u32::MAX;

impl Hold for Last {
    fn held(&self) -> Held {
        let records = self.partitions.len();
        let places = self.partitions.capacity() * size_of::<Partition>() + self.places.size();
        let keys = estimate(self.places.keys().iter(), self.places.len(), Row::heap_size);
        let size = |chunk: &Chunk| chunk.columns.iter().map(|c| c.get_array_memory_size()).sum::<usize>();
        let rows: usize = self.chunks.iter().flatten().map(size).sum();
        Held { records, bytes: places + keys + rows, batches: 1 }
    }
}

impl Last {
    fn new(layout: Layout) -> Self {
        let keys = converter(&layout.schema, &layout.partition);
        let kinds = layout.lags.iter().map(|i| layout.schema.field(*i).data_type().clone()).collect();
        Last { layout, keys, kinds, places: Places::default(), partitions: vec![], chunks: vec![] }
    }

    /// Takes in the rows of a timestamp: their columns, and those of the rows before them.
    fn step(&mut self, pieces: &[Piece]) -> Vec<ArrayRef> {
        let rows = together(&self.layout.schema, pieces);
        let of_row = self.partitions_of(&rows);
        let (order, ends) = self.sort(&rows, &of_row);
        // Where the row before each row is: 0 is the batch at hand, 1 is nowhere, the others are chunks.
        let mut before = vec![(1usize, 0usize); rows.num_rows()];
        let mut start = 0;
        for end in &ends {
            let run = &order[start..*end as usize];
            if let Some((chunk, row)) = self.partitions[of_row[run[0] as usize] as usize].last {
                before[run[0] as usize] = (chunk as usize + 2, row as usize);
            }
            run.windows(2).for_each(|pair| before[pair[1] as usize] = (0, pair[0] as usize));
            start = *end as usize;
        }
        let mut columns = rows.columns()[..self.layout.columns].to_vec();
        for (i, lag) in self.layout.lags.iter().enumerate() {
            let (own, nowhere) = (rows.column(*lag), new_null_array(&self.kinds[i], 1));
            let mut sources: Vec<&dyn Array> = vec![own.as_ref(), nowhere.as_ref()];
            let held = |chunk: &Option<Chunk>| chunk.as_ref().map(|chunk| chunk.columns[i].clone());
            let held: Vec<ArrayRef> =
                self.chunks.iter().map(|chunk| held(chunk).unwrap_or_else(|| nowhere.clone())).collect();
            sources.extend(held.iter().map(|column| column.as_ref() as &dyn Array));
            columns.push(interleave(&sources, &before).expect("columns of one type"));
        }
        self.keep(&rows, &of_row, &order, &ends);
        columns
    }

    /// The partition of each row.
    fn partitions_of(&mut self, rows: &RecordBatch) -> Vec<u32> {
        let Some(keys) = &self.keys else {
            if self.partitions.is_empty() {
                self.partitions.push(Partition::default());
            }
            return vec![0; rows.num_rows()];
        };
        let encoded = keys.convert_columns(&pick(rows, &self.layout.partition)).expect("columns of the layout");
        let mut of = |key: &[u8]| {
            let place = self.places.of(key);
            if place as usize == self.partitions.len() {
                self.partitions.push(Partition::default());
            }
            place
        };
        encoded.iter().map(|key| of(key.as_ref())).collect()
    }

    /// The rows partition by partition, each in order, and where each partition ends.
    fn sort(&mut self, rows: &RecordBatch, of_row: &[u32]) -> (Vec<u32>, Vec<u32>) {
        // They are counted, then put to their places: within a partition they stay in the order in which they came.
        let mut counts: Vec<u32> = vec![];
        let mut touched: Vec<u32> = Vec::with_capacity(of_row.len());
        for partition in of_row {
            let place = &mut self.partitions[*partition as usize].touched;
            if *place == NONE {
                *place = counts.len() as u32;
                counts.push(0);
            }
            counts[*place as usize] += 1;
            touched.push(*place);
        }
        of_row.iter().for_each(|partition| self.partitions[*partition as usize].touched = NONE);
        let mut ends = counts;
        let mut sum = 0;
        for end in &mut ends {
            let start = sum;
            sum += *end;
            *end = start;
        }
        let mut order = vec![0; of_row.len()];
        for (row, place) in touched.iter().enumerate() {
            order[ends[*place as usize] as usize] = row as u32;
            ends[*place as usize] += 1;
        }
        // That is the order of time, but for rows of several batches, and those of one time.
        let by = rows.column(self.layout.order);
        let compare = make_comparator(by, by, SortOptions::default()).expect("a type with an order");
        let mut encoded = None;
        let mut start = 0;
        for end in &ends {
            let run = &mut order[start..*end as usize];
            start = *end as usize;
            if run.windows(2).all(|pair| compare(pair[0] as usize, pair[1] as usize) == Ordering::Less) {
                continue;
            }
            let columns = self.layout.columns;
            let encoded = encoded.get_or_insert_with(|| {
                let all = converter(&self.layout.schema, &(0..columns).collect::<Vec<_>>()).expect("some columns");
                all.convert_columns(&rows.columns()[..columns]).expect("columns of the layout")
            });
            run.sort_by(|a, b| {
                let (a, b) = (*a as usize, *b as usize);
                compare(a, b).then_with(|| encoded.row(a).cmp(&encoded.row(b)))
            });
        }
        (order, ends)
    }

    /// Keeps the last row of each partition.
    fn keep(&mut self, rows: &RecordBatch, of_row: &[u32], order: &[u32], ends: &[u32]) {
        let last: Vec<u32> = ends.iter().map(|end| order[*end as usize - 1]).collect();
        let free = self.chunks.iter().position(Option::is_none).unwrap_or_else(|| {
            self.chunks.push(None);
            self.chunks.len() - 1
        });
        for (at, row) in last.iter().enumerate() {
            let partition = &mut self.partitions[of_row[*row as usize] as usize];
            if let Some((chunk, _)) = partition.last.replace((free as u32, at as u32)) {
                let held = self.chunks[chunk as usize].as_mut().expect("it has a live row");
                held.live -= 1;
                if held.live == 0 {
                    self.chunks[chunk as usize] = None;
                }
            }
        }
        let lags = rows.project(&self.layout.lags).expect("columns of the layout");
        let lags = take_rows(&lags, &UInt32Array::from(last)).expect("indices of rows");
        let (columns, rows) = (lags.columns().to_vec(), lags.num_rows());
        self.chunks[free] = Some(Chunk { columns, rows, live: rows });
        let held = || self.chunks.iter().flatten();
        if held().count() > CHUNKS && held().map(|chunk| chunk.rows).sum::<usize>() > 2 * self.partitions.len() {
            self.put_together();
        }
    }

    /// The key of each partition and what its last row carries over, in writing.
    fn save(&mut self) -> Vec<Vec<u8>> {
        if self.partitions.is_empty() {
            return vec![];
        }
        self.put_together();
        let Some(Some(chunk)) = self.chunks.first() else { return vec![] };
        let keys: BinaryArray = match self.keys {
            Some(_) => self.places.keys().iter().map(|key| Some(key.as_slice())).collect(),
            None => [Some(&[] as &[u8])].into_iter().collect(),
        };
        let mut fields = vec![Field::new("key", DataType::Binary, false)];
        fields.extend(
            self.kinds.iter().enumerate().map(|(at, kind)| Field::new(format!("lag {at}"), kind.clone(), true)),
        );
        let columns = [vec![Arc::new(keys) as ArrayRef], chunk.columns.clone()].concat();
        let rows = batch(&Arc::new(Schema::new(fields)), columns, chunk.rows);
        let piece = |start: usize| {
            let rows = rows.slice(start, PIECE.min(rows.num_rows() - start));
            let diffs = Int64Array::from_value(1, rows.num_rows());
            pack(&vec![Piece { worker: 0, rows, diffs }])
        };
        (0..rows.num_rows()).step_by(PIECE).map(piece).collect()
    }

    /// Takes over what was saved of some partitions.
    fn restore(&mut self, rows: &RecordBatch) {
        let chunk = self.chunks.len() as u32;
        for (row, key) in rows.column(0).as_binary::<i32>().iter().enumerate() {
            let place = if self.keys.is_some() { self.places.of(key.unwrap_or_default()) as usize } else { 0 };
            self.partitions.resize_with(self.partitions.len().max(place + 1), Partition::default);
            self.partitions[place].last = Some((chunk, row as u32));
        }
        let columns = rows.columns()[1..].to_vec();
        self.chunks.push(Some(Chunk { columns, rows: rows.num_rows(), live: rows.num_rows() }));
    }

    fn put_together(&mut self) {
        let chunks = std::mem::take(&mut self.chunks);
        let nothing: Vec<ArrayRef> = self.kinds.iter().map(|kind| new_null_array(kind, 0)).collect();
        let mut places = Vec::with_capacity(self.partitions.len());
        for partition in &mut self.partitions {
            if let Some((chunk, row)) = partition.last.replace((0, places.len() as u32)) {
                places.push((chunk as usize, row as usize));
            }
        }
        let column = |i: usize| {
            let of = |chunk: &'_ Option<Chunk>| chunk.as_ref().map_or(&nothing, |chunk| &chunk.columns)[i].clone();
            let sources: Vec<ArrayRef> = chunks.iter().map(of).collect();
            let sources: Vec<&dyn Array> = sources.iter().map(|column| column.as_ref()).collect();
            interleave(&sources, &places).expect("columns of one type")
        };
        let (columns, rows) = ((0..self.kinds.len()).map(column).collect(), places.len());
        self.chunks = vec![Some(Chunk { columns, rows, live: rows })];
    }
}

/// The rows of all pieces, each as often as it is there.
fn together(schema: &SchemaRef, pieces: &[Piece]) -> RecordBatch {
    let diffs = || pieces.iter().flat_map(|piece| piece.diffs.values());
    assert!(diffs().all(|diff| *diff > 0), "a row of an append-only relation was taken back");
    let rows = match pieces {
        [only] => only.rows.clone(),
        // Every column of a piece may be null, whatever the input promises.
        several => {
            let schema = several.first().map_or_else(|| schema.clone(), |piece| piece.rows.schema());
            concat_batches(&schema, several.iter().map(|piece| &piece.rows)).expect("pieces of one schema")
        }
    };
    if diffs().all(|diff| *diff == 1) {
        return rows;
    }
    let repeated = diffs().enumerate().flat_map(|(at, diff)| std::iter::repeat_n(at as u32, *diff as usize));
    take_rows(&rows, &repeated.collect()).expect("indices of rows")
}
