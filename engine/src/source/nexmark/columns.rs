//! The three relations, and their columns while they are filled.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};

use crate::source::{Relation, schema};

/// Who bids and sells.
static PERSON: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns("id: i, name: t, email_address: t, credit_card: t, city: t, state: t, date_time: at, extra: t")
});
/// What is sold.
static AUCTION: LazyLock<SchemaRef> = LazyLock::new(|| {
    columns(
        "id: i, item_name: t, description: t, initial_bid: i, reserve: i, date_time: at, expires: at, seller: i, \
         category: i, extra: t",
    )
});
/// What is offered for it.
static BID: LazyLock<SchemaRef> =
    LazyLock::new(|| columns("auction: i, bidder: i, price: i, channel: t, url: t, date_time: at, extra: t"));

/// Columns as `name: type`: `i` is an integer, `t` text, `at` a time.
fn columns(written: &str) -> SchemaRef {
    let field = |column: &str| {
        let (name, kind) = column.trim().split_once(": ").expect("a name and a type");
        let kind = match kind {
            "i" => DataType::Int64,
            "t" => DataType::Utf8,
            _ => DataType::Timestamp(TimeUnit::Microsecond, None),
        };
        Field::new(name, kind, false)
    };
    schema(written.split(',').map(field).collect())
}

/// What every such source offers. Each relation is only ever added to.
pub(super) fn relations() -> Vec<Relation> {
    let relation = |name: &str, schema: &SchemaRef, key: &[usize]| Relation {
        name: name.to_owned(),
        schema: schema.clone(),
        key: key.to_vec(),
        appended: true,
        time_column: Some(schema.index_of("date_time").expect("each relation has it")),
    };
    vec![relation("person", &PERSON, &[0]), relation("auction", &AUCTION, &[0]), relation("bid", &BID, &[])]
}

/// Text, one value behind the other.
#[derive(Debug)]
pub(super) struct Texts {
    ends: Vec<i32>,
    bytes: Vec<u8>,
}

impl Default for Texts {
    fn default() -> Self {
        Texts { ends: vec![0], bytes: vec![] }
    }
}

impl Texts {
    /// Adds a value.
    pub(super) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.end();
    }

    /// The bytes of the value that is being added; [`Texts::end`] ends it.
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends a value. How long it is.
    pub(super) fn end(&mut self) -> usize {
        let end = i32::try_from(self.bytes.len()).expect("a snapshot has few enough events");
        let start = self.ends.last().copied().unwrap_or(0);
        self.ends.push(end);
        (end - start) as usize
    }

    /// The value at `index`.
    pub(super) fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.ends[index] as usize..self.ends[index + 1] as usize]
    }

    /// The column; what follows begins anew, with as much room.
    fn finish(&mut self) -> ArrayRef {
        let mut ends = Vec::with_capacity(self.ends.len());
        ends.push(0);
        let bytes = Vec::with_capacity(self.bytes.len());
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.ends, ends).into());
        let values = Buffer::from_vec(std::mem::replace(&mut self.bytes, bytes));
        Arc::new(StringArray::try_new(offsets, values, None).expect("only ASCII is generated"))
    }
}

fn integers(values: &mut Vec<i64>) -> ArrayRef {
    let room = Vec::with_capacity(values.len());
    Arc::new(Int64Array::from(std::mem::replace(values, room)))
}

fn times(values: &mut Vec<i64>) -> ArrayRef {
    let room = Vec::with_capacity(values.len());
    Arc::new(TimestampMicrosecondArray::from(std::mem::replace(values, room)))
}

fn finish(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Option<RecordBatch> {
    let rows = RecordBatch::try_new(schema.clone(), columns).expect("the columns of the relation");
    Some(rows).filter(|rows| rows.num_rows() > 0)
}

/// Rows of `person`.
#[derive(Debug, Default)]
pub(super) struct People {
    pub(super) id: Vec<i64>,
    pub(super) name: Texts,
    pub(super) email_address: Texts,
    pub(super) credit_card: Texts,
    pub(super) city: Texts,
    pub(super) state: Texts,
    pub(super) date_time: Vec<i64>,
    pub(super) extra: Texts,
}

impl People {
    /// The rows since the last time; none, if there are none.
    pub(super) fn finish(&mut self) -> Option<RecordBatch> {
        let columns = vec![
            integers(&mut self.id),
            self.name.finish(),
            self.email_address.finish(),
            self.credit_card.finish(),
            self.city.finish(),
            self.state.finish(),
            times(&mut self.date_time),
            self.extra.finish(),
        ];
        finish(&PERSON, columns)
    }
}

/// Rows of `auction`.
#[derive(Debug, Default)]
pub(super) struct Auctions {
    pub(super) id: Vec<i64>,
    pub(super) item_name: Texts,
    pub(super) description: Texts,
    pub(super) initial_bid: Vec<i64>,
    pub(super) reserve: Vec<i64>,
    pub(super) date_time: Vec<i64>,
    pub(super) expires: Vec<i64>,
    pub(super) seller: Vec<i64>,
    pub(super) category: Vec<i64>,
    pub(super) extra: Texts,
}

impl Auctions {
    /// The rows since the last time; none, if there are none.
    pub(super) fn finish(&mut self) -> Option<RecordBatch> {
        let columns = vec![
            integers(&mut self.id),
            self.item_name.finish(),
            self.description.finish(),
            integers(&mut self.initial_bid),
            integers(&mut self.reserve),
            times(&mut self.date_time),
            times(&mut self.expires),
            integers(&mut self.seller),
            integers(&mut self.category),
            self.extra.finish(),
        ];
        finish(&AUCTION, columns)
    }
}

/// Rows of `bid`.
#[derive(Debug, Default)]
pub(super) struct Bids {
    pub(super) auction: Vec<i64>,
    pub(super) bidder: Vec<i64>,
    pub(super) price: Vec<i64>,
    pub(super) channel: Texts,
    pub(super) url: Texts,
    pub(super) date_time: Vec<i64>,
    pub(super) extra: Texts,
}

impl Bids {
    /// The rows since the last time; none, if there are none.
    pub(super) fn finish(&mut self) -> Option<RecordBatch> {
        let columns = vec![
            integers(&mut self.auction),
            integers(&mut self.bidder),
            integers(&mut self.price),
            self.channel.finish(),
            self.url.finish(),
            times(&mut self.date_time),
            self.extra.finish(),
        ];
        finish(&BID, columns)
    }
}
