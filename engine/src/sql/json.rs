//! `json -> key`, `json ->> key`, `#>` and `#>>`: what is in a text that is JSON, as PostgreSQL's type `json` has it.
//!
//! A key is the name of a member or, as a number, a place in an array, from its end if it is negative. What is not
//! there is null; a text that is no JSON is an error of its row. Results of `->` are JSON as it is written.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The call that `op` stands for, if it is one of these.
pub(super) fn operator(op: &BinaryOperator, left: &Expr, right: &Expr) -> Option<Expr> {
    let access = match op {
        BinaryOperator::Arrow => Access { path: false, text: false },
        BinaryOperator::LongArrow => Access { path: false, text: true },
        BinaryOperator::HashArrow => Access { path: true, text: false },
        BinaryOperator::HashLongArrow => Access { path: true, text: true },
        _ => return None,
    };
    static FUNCTIONS: LazyLock<Vec<ScalarUDF>> = LazyLock::new(|| {
        let all = [(false, false), (false, true), (true, false), (true, true)];
        let function = |(path, text)| ScalarUDF::from(Get::new(Access { path, text }));
        all.into_iter().map(function).collect()
    });
    let place = 2 * usize::from(access.path) + usize::from(access.text);
    Some(FUNCTIONS[place].call(vec![left.clone(), right.clone()]))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Access {
    /// `#>`: by several keys, `'{a,0,b}'`.
    path: bool,
    /// `->>`: as text.
    text: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Get {
    access: Access,
    signature: Signature,
}

impl Get {
    fn new(access: Access) -> Self {
        Get { access, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

#[derive(Clone, Debug)]
enum Key {
    Name(String),
    Place(i64),
    /// By a member's name or a place, as what is there wants.
    Either(String),
}

impl Key {
    fn name(&self) -> Option<&str> {
        match self {
            Key::Name(name) | Key::Either(name) => Some(name),
            Key::Place(_) => None,
        }
    }

    fn place(&self) -> Option<i64> {
        match self {
            Key::Name(_) => None,
            Key::Place(place) => Some(*place),
            Key::Either(text) => text.trim().parse().ok(),
        }
    }
}

impl ScalarUDFImpl for Get {
    fn name(&self) -> &str {
        match (self.access.path, self.access.text) {
            (false, false) => "json_object_field",
            (false, true) => "json_object_field_text",
            (true, false) => "json_extract_path",
            (true, true) => "json_extract_path_text",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let text = |kind: &DataType| kind.is_string() || kind.is_null();
        match arguments {
            [json, key] if text(json) && text(key) => Ok(vec![DataType::Utf8, DataType::Utf8]),
            [json, key] if text(json) && key.is_integer() && !self.access.path => {
                Ok(vec![DataType::Utf8, DataType::Int64])
            }
            _ => Err(DataFusionError::Plan(
                "JSON is text, and its keys are texts or whole numbers, as in doc -> 'name' or doc ->> 0".to_owned(),
            )),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let documents = cast(&args.args[0].to_array(args.number_rows)?, &DataType::Utf8)?;
        let documents = documents.as_string::<i32>();
        let mut out = StringBuilder::with_capacity(documents.len(), documents.len() * 16);
        // The keys of a literal are read once.
        let (keys, one): (ArrayRef, bool) = match &args.args[1] {
            ColumnarValue::Scalar(key) => (key.to_array()?, true),
            ColumnarValue::Array(keys) => (keys.clone(), false),
        };
        let first = if one { self.path(&keys, 0)? } else { None };
        for (row, document) in documents.iter().enumerate() {
            let path = if one { None } else { self.path(&keys, row)? };
            match (document, path.as_ref().or(first.as_ref())) {
                (Some(document), Some(path)) => out.append_option(self.get(document, path)?),
                _ => out.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

impl Get {
    /// The keys of a row, one after another; none: null.
    fn path(&self, keys: &ArrayRef, row: usize) -> Result<Option<Vec<Key>>> {
        if keys.is_null(row) || keys.data_type().is_null() {
            return Ok(None);
        }
        if let Some(places) = keys.as_primitive_opt::<Int64Type>() {
            return Ok(Some(vec![Key::Place(places.value(row))]));
        }
        let value = ScalarValue::try_from_array(keys, row)?;
        let text = value.try_as_str().flatten().unwrap_or_default();
        if !self.access.path {
            return Ok(Some(vec![Key::Name(text.to_owned())]));
        }
        let inner = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(|| {
            DataFusionError::Execution(format!("malformed array literal: \"{text}\", as in '{{a,0,b}}'"))
        })?;
        let key = |key: &str| Key::Either(key.trim().trim_matches('"').to_owned());
        Ok(Some(if inner.trim().is_empty() { vec![] } else { inner.split(',').map(key).collect() }))
    }

    fn get(&self, document: &str, path: &[Key]) -> Result<Option<String>> {
        let mut found = document;
        for key in path {
            let mut reader = serde_json::Deserializer::from_str(found);
            let inner = reader.deserialize_any(Seek(key)).and_then(|inner| reader.end().map(|()| inner));
            match inner.map_err(|_| invalid())? {
                Some(inner) => found = inner.get(),
                None => return Ok(None),
            }
        }
        Ok(match found.trim() {
            "null" if self.access.text => None,
            text if self.access.text && text.starts_with('"') => {
                Some(serde_json::from_str::<String>(text).map_err(|_| invalid())?)
            }
            text => Some(text.to_owned()),
        })
    }
}

fn invalid() -> DataFusionError {
    DataFusionError::Execution("invalid input syntax for type json".to_owned())
}

/// Finds what is under a key.
struct Seek<'k>(&'k Key);

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = members.next_key::<std::borrow::Cow<'de, str>>()? {
            // Of several members of a name the last counts.
            match self.0.name() == Some(name.as_ref()) {
                true => found = Some(members.next_value()?),
                false => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all: Vec<&'de RawValue> = vec![];
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        let place = self.0.place().and_then(|place| {
            let from_start = if place < 0 { place.checked_add(i64::try_from(all.len()).ok()?)? } else { place };
            usize::try_from(from_start).ok()
        });
        Ok(place.and_then(|place| all.get(place).copied()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}
