//! Documents of every version and oddity, and what comes of them.
