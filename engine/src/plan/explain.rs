//! `EXPLAIN`: a plan as text and as Mermaid.
//!
//! Every operator is a line, what it holds in memory a line below it: by which columns, and which object
//! it serves (`job.view.operator`).

use std::fmt::Write;

use velib_operators::Expr;

use super::names::Names;
use super::show::{
    accumulation, aggregate_call, aliased, by_order, by_partition, count, length, list, relation_name, show,
    show_bound, tidy,
};
use super::{From, Job, JoinKind, Node, View};

/// The plan of a job, an operator a line.
pub fn text(job: &Job) -> String {
    let mut out = String::new();
    for (index, view) in job.views.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        out.push_str(&view_text(job, view));
    }
    out
}

/// The plan of one view of a job.
pub fn view_text(job: &Job, view: &View) -> String {
    let mut out = format!("view {}\n", view.name);
    for fact in facts(view) {
        let _ = writeln!(out, "  {fact}");
    }
    let mut names = Names::new(job, view);
    tree(&view.plan, job, &mut names, 1, &mut out);
    out
}

/// The plan of a job as a Mermaid flowchart: sources at the top, views at the bottom.
pub fn mermaid(job: &Job) -> String {
    let mut out = String::from("flowchart TD\n");
    for (index, input) in job.inputs.iter().enumerate() {
        let name = relation_name(&input.source, &input.relation);
        let _ = writeln!(out, "  i{index}[({})]", quoted(&name));
    }
    let mut next = 0;
    for (index, view) in job.views.iter().enumerate() {
        let mut names = Names::new(job, view);
        let root = graph(&view.plan, job, &mut names, &mut next, &mut out);
        let _ = writeln!(out, "  v{index}[[{}]]", quoted(&view.name));
        let _ = writeln!(out, "  {root} --> v{index}");
    }
    out
}

fn tree(node: &Node, job: &Job, names: &mut Names, depth: usize, out: &mut String) {
    let name = names.of(node);
    let indent = "  ".repeat(depth);
    let _ = writeln!(out, "{indent}{}", line(node, job));
    for held in held(node, &name) {
        let _ = writeln!(out, "{indent}  | {held}");
    }
    for child in node.children() {
        tree(child, job, names, depth + 1, out);
    }
}

fn graph(node: &Node, job: &Job, names: &mut Names, next: &mut usize, out: &mut String) -> String {
    if let Node::Get(get) = node {
        return match get.from {
            From::Input(index) => format!("i{index}"),
            From::View(index) => format!("v{index}"),
            From::Rounds => {
                let id = format!("n{next}");
                *next += 1;
                let _ = writeln!(out, "  {id}([{}])", quoted(&get.name));
                id
            }
        };
    }
    let id = format!("n{next}");
    *next += 1;
    let name = names.of(node);
    let label: Vec<String> = std::iter::once(line(node, job)).chain(held(node, &name)).collect();
    let _ = writeln!(out, "  {id}[{}]", quoted(&label.join("<br>")));
    for child in node.children() {
        let from = graph(child, job, names, next, out);
        let _ = writeln!(out, "  {from} --> {id}");
    }
    id
}

fn quoted(label: &str) -> String {
    let escaped = label.replace('"', "#quot;").replace("<br>", "\u{0}").replace('<', "#lt;").replace('>', "#gt;");
    format!("\"{}\"", escaped.replace('\u{0}', "<br>"))
}

fn facts(view: &View) -> Vec<String> {
    let name = |i: &usize| view.schema.field(*i).name().clone();
    let names = |columns: &[usize]| columns.iter().map(name).collect::<Vec<_>>().join(", ");
    let mut facts = vec![match view.key.as_slice() {
        [] => "without a key: rows carry a multiplicity".to_owned(),
        key => format!("key ({})", names(key)),
    }];
    facts.extend(view.indexes.iter().map(|index| format!("index ({})", names(index))));
    if let Some(retain) = view.retain {
        facts.push(format!(
            "rows leave memory {} after {}, and stay in PostgreSQL",
            length(retain.after_ms),
            name(&retain.column)
        ));
    }
    if let Some(metrics) = &view.metrics {
        facts.push(format!("shown as metrics: {}", names(&metrics.columns)));
    }
    facts
}

fn line(node: &Node, job: &Job) -> String {
    let kind = node.kind();
    match node {
        Node::Get(get) => {
            let columns: Vec<&str> = get.schema.fields().iter().map(|f| f.name().as_str()).collect();
            let appended = match get.from {
                From::Input(index) => job.inputs.get(index).is_some_and(|i| i.appended),
                From::View(_) | From::Rounds => false,
            };
            let appended = if appended { ", append-only" } else { "" };
            format!("{kind} {} ({}){appended}", get.name, columns.join(", "))
        }
        Node::Constant(rows) => format!("{kind} {}", count(rows.num_rows(), "row")),
        Node::Map(map) => {
            let mut parts = vec![];
            if let Some(outputs) = &map.outputs {
                let fields = map.schema.fields();
                parts
                    .push(outputs.iter().zip(fields).map(|(o, f)| aliased(o, f.name())).collect::<Vec<_>>().join(", "));
            }
            if !map.predicates.is_empty() {
                parts.push(format!("where {}", list(&map.predicates, " and ")));
            }
            format!("{kind} {}", parts.join(" "))
        }
        Node::Temporal(temporal) => {
            let from = temporal.from.as_ref().map(|e| format!("from {}", show_bound(e, &temporal.input)));
            let until = temporal.until.as_ref().map(|e| format!("until {}", show_bound(e, &temporal.input)));
            let parts: Vec<String> = from.into_iter().chain(until).collect();
            format!("{kind} {}", parts.join(" "))
        }
        Node::Join(join) => {
            let name = match join.kind {
                JoinKind::Inner => "inner",
                JoinKind::Left => "left",
                JoinKind::Full => "full",
                JoinKind::Semi => "semi",
                JoinKind::Anti => "anti",
            };
            let equal = if join.null_equal { "is not distinct from" } else { "=" };
            let pairs = join.left_keys.iter().zip(&join.right_keys);
            let keys: Vec<String> = pairs.map(|(l, r)| format!("{} {equal} {}", show(l), show(r))).collect();
            let on = if keys.is_empty() { " all pairs".to_owned() } else { format!(" on {}", keys.join(" and ")) };
            let residual = join.residual.as_ref().map(|r| format!(" where {}", show(r))).unwrap_or_default();
            format!("{kind} {name}{on}{residual}")
        }
        Node::Accumulate(n) => grouping(kind, &n.group, n.aggregates.iter().map(accumulation).collect()),
        Node::Aggregate(n) => grouping(kind, &n.group, n.aggregates.iter().map(aggregate_call).collect()),
        Node::TopK(top) => {
            let limit = top.limit.map(|k| format!(" first {k}")).unwrap_or_else(|| " all".to_owned());
            let offset = if top.offset > 0 { format!(" after {}", top.offset) } else { String::new() };
            format!("{kind}{limit}{offset}{}{}", by_partition(&top.partition), by_order(&top.order))
        }
        Node::Window(window) => {
            let functions: Vec<String> = window.functions.iter().map(|f| tidy(f.name())).collect();
            format!("{kind} {}{}{}", functions.join(", "), by_partition(&window.partition), by_order(&window.order))
        }
        Node::Previous(previous) => {
            format!("{kind} lag of {}{}", list(&previous.lags, ", "), by_partition(&previous.partition))
        }
        Node::Union(union) => format!("{kind} of {}", count(union.inputs.len(), "input")),
        Node::Unnest(unnest) => {
            let schema = unnest.input.schema();
            let names: Vec<String> = unnest.lists.iter().map(|at| tidy(schema.field(*at).name())).collect();
            format!("{kind} {}", names.join(", "))
        }
        Node::Iterate(iterate) => format!("{kind}{}", if iterate.distinct { " distinct" } else { "" }),
    }
}

/// What an operator keeps in memory, and why.
fn held(node: &Node, name: &str) -> Vec<String> {
    match node {
        Node::Get(_) | Node::Constant(_) | Node::Map(_) | Node::Union(_) | Node::Unnest(_) => vec![],
        Node::Iterate(_) => vec![format!("holds the rows of all rounds for {name}")],
        Node::Temporal(_) => vec![format!("holds rows until their time is past, for {name}")],
        Node::Join(join) => {
            let side = |which: &str, keys: &[Expr]| {
                format!("holds the {which} side arranged by [{}] for {name}", list(keys, ", "))
            };
            vec![side("left", &join.left_keys), side("right", &join.right_keys)]
        }
        Node::Accumulate(n) => {
            let one = if n.global { "holds one row" } else { "holds one row a group" };
            let expiry = n.expiry.map(|e| format!(", for {} after {}", length(e.after_ms), show(&n.group[e.group])));
            vec![format!("{one}{} for {name}", expiry.unwrap_or_default())]
        }
        Node::Aggregate(n) => {
            vec![format!("holds the rows of each group arranged by [{}] for {name}", list(&n.group, ", "))]
        }
        Node::TopK(n) => {
            vec![format!("holds the rows of each partition arranged by [{}] for {name}", list(&n.partition, ", "))]
        }
        Node::Window(n) => {
            vec![format!("holds the rows of each partition arranged by [{}] for {name}", list(&n.partition, ", "))]
        }
        Node::Previous(_) => vec![format!("holds one row a partition for {name}")],
    }
}

fn grouping(kind: &str, group: &[Expr], aggregates: Vec<String>) -> String {
    let by = if group.is_empty() { String::new() } else { format!(" by {}", list(group, ", ")) };
    let of = if aggregates.is_empty() { String::new() } else { format!(": {}", aggregates.join(", ")) };
    format!("{kind}{by}{of}")
}
