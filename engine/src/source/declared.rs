//! Columns as they are declared in settings: `columns = 'time timestamptz, temperature double'`.

use arrow::datatypes::{DataType, Field, TimeUnit};

use super::SourceError;
use super::settings::Settings;

/// A type that a column may be declared to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bigint,
    Double,
    Boolean,
    Timestamptz,
}

/// A declared column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

impl Kind {
    /// As it is declared.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Text => "text",
            Kind::Bigint => "bigint",
            Kind::Double => "double",
            Kind::Boolean => "boolean",
            Kind::Timestamptz => "timestamptz",
        }
    }

    fn read(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "text" | "varchar" => Kind::Text,
            "bigint" | "int" | "integer" => Kind::Bigint,
            "double" | "double precision" => Kind::Double,
            "boolean" => Kind::Boolean,
            "timestamptz" => Kind::Timestamptz,
            _ => return None,
        })
    }

    fn of(data_type: &DataType) -> Option<Self> {
        let all = [Kind::Text, Kind::Bigint, Kind::Double, Kind::Boolean, Kind::Timestamptz];
        all.into_iter().find(|kind| kind.data_type() == *data_type)
    }

    /// As Arrow has it.
    pub(super) fn data_type(self) -> DataType {
        match self {
            Kind::Text => DataType::Utf8,
            Kind::Bigint => DataType::Int64,
            Kind::Double => DataType::Float64,
            Kind::Boolean => DataType::Boolean,
            Kind::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

impl Column {
    /// A nullable field.
    pub(super) fn field(&self) -> Field {
        Field::new(&self.name, self.kind.data_type(), true)
    }

    /// The column of a [field](Column::field).
    pub(super) fn of(field: &Field) -> Option<Self> {
        Some(Column { name: field.name().clone(), kind: Kind::of(field.data_type())? })
    }
}

/// Reads the setting `columns`.
pub(super) fn columns(settings: &Settings<'_>) -> Result<Option<Vec<Column>>, SourceError> {
    let Some(text) = settings.text("columns") else { return Ok(None) };
    let column = |part: &str| {
        let (name, kind) = part.trim().split_once(char::is_whitespace)?;
        Some(Column { name: name.trim_matches('"').to_owned(), kind: Kind::read(kind.trim())? })
    };
    let columns: Option<Vec<_>> = text.split(',').map(column).collect();
    let remedy = "write 'name type, name type'; the types are text, bigint, double, boolean, timestamptz";
    let columns = columns.ok_or_else(|| settings.wrong("columns", remedy))?;
    let twice =
        columns.iter().enumerate().find(|(at, column)| columns[..*at].iter().any(|other| other.name == column.name));
    match twice {
        Some((_, column)) => Err(settings.wrong("columns", &format!("{} is there twice", column.name))),
        None => Ok(Some(columns)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Options;

    #[test]
    fn columns_are_declared() {
        let read = |text: &str| {
            let options = Options::from([("columns".to_owned(), text.to_owned())]);
            let settings = Settings::new("HTTP", &options, &["columns"]).unwrap();
            let columns = columns(&settings).map_err(|error| error.to_string())?.unwrap();
            Ok::<_, String>(
                columns.iter().map(|column| format!("{} {}", column.name, column.kind.name())).collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            read("time timestamptz, \"n\" double precision ,b BIGINT").unwrap(),
            ["time timestamptz", "n double", "b bigint"]
        );
        for (text, why) in [("time", "name type"), ("a text, a text", "a is there twice"), ("a money", "the types are")]
        {
            assert!(read(text).unwrap_err().contains(why), "{text}");
        }
    }
}
