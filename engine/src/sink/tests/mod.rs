//! Tests of the sink against a real PostgreSQL.
