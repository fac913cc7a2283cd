//! Errors of evaluation as PostgreSQL words them.

/// `message` of DataFusion or Arrow, in PostgreSQL's words where it has some.
pub(super) fn postgres(message: &str) -> String {
    let lower = message.to_lowercase();
    if lower.contains("divide by zero") {
        return "division by zero".to_owned();
    }
    if let Some(rest) = message.split("Cannot cast string '").nth(1)
        && let Some((value, rest)) = rest.split_once("' to value of ")
    {
        let kind = type_name(rest.split(' ').next().unwrap_or_default());
        return format!("invalid input syntax for type {kind}: \"{value}\"");
    }
    if lower.contains("overflow") {
        return "value out of range: overflow".to_owned();
    }
    message.to_owned()
}

fn type_name(arrow: &str) -> &str {
    match arrow {
        "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Boolean" => "boolean",
        "Date32" => "date",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::postgres;

    #[test]
    fn words() {
        for (ours, theirs) in [
            ("Arrow error: Divide by zero error", "division by zero"),
            ("Cannot cast string 'x y' to value of Int64 type", "invalid input syntax for type bigint: \"x y\""),
            ("Overflow happened on: 9223372036854775807 + 1", "value out of range: overflow"),
            ("no column x", "no column x"),
        ] {
            assert_eq!(postgres(ours), theirs);
        }
    }
}
