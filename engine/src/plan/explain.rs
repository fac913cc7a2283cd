//! `EXPLAIN`: a plan as text and as Mermaid.
