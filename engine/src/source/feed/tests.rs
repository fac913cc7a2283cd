//! Sharing, joining late, leaving.
