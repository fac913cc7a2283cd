//! Where in a document the rows are: `$`, `$.hourly`, `$.data.items[0]`, `$['two words']`.

use serde_json::Value;

/// A way down into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// Reads a path; `None` where the text is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('$')?;
        let mut steps = vec![];
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let (inside, after) = inner.split_once(']')?;
                let quoted = inside.strip_prefix(['\'', '"']).and_then(|text| text.strip_suffix(['\'', '"']));
                steps.push(match quoted {
                    Some(key) => Step::Key(key.to_owned()),
                    None => Step::Index(inside.parse().ok()?),
                });
                rest = after;
            } else {
                let inner = rest.strip_prefix('.')?;
                let end = inner.find(['.', '[']).unwrap_or(inner.len());
                if end == 0 {
                    return None;
                }
                steps.push(Step::Key(inner[..end].to_owned()));
                rest = &inner[end..];
            }
        }
        Some(Path(steps))
    }

    /// What is there.
    pub(super) fn find<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(document, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let document = json!({"a": {"b": [1, {"c d": 2}]}});
        for (path, found) in [
            ("$.a.b[0]", Some(json!(1))),
            ("$.a.b[1]['c d']", Some(json!(2))),
            ("$['a'].b[1]", Some(json!({"c d": 2}))),
            ("$.a.x", None),
            ("$.a.b[7]", None),
        ] {
            assert_eq!(Path::parse(path).unwrap().find(&document), found.as_ref(), "{path}");
        }
        assert_eq!(Path::parse("$").unwrap().find(&document), Some(&document));
        for path in ["", "a.b", "$a", "$..a", "$.", "$[x]", "$[1"] {
            assert_eq!(Path::parse(path), None, "{path}");
        }
    }
}
