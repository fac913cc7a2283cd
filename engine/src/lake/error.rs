//! What can go wrong between the engine and the lake.

/// Why the lake cannot be used now.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The setting is wrong.
    #[error("the lake {url} cannot be opened: {reason}")]
    Address {
        /// Where it should be.
        url: String,
        /// What about it.
        reason: String,
    },
    /// The store is away, refuses, or is full.
    #[error("the lake is not available: {0}")]
    Store(#[from] object_store::Error),
    /// A file could not be made durable.
    #[error("the lake is not available: {0}")]
    Disk(#[from] std::io::Error),
    /// An object of another version: nothing is wrong with it.
    #[error("{object}: {reason}; a newer version of velib wrote it, and has to go on with it")]
    Unknown {
        /// Its name in the lake.
        object: String,
        /// What is not known.
        reason: String,
    },
    /// What is to be stored cannot be encoded.
    #[error("the lake cannot hold it: {0}")]
    Encode(String),
}

impl LakeError {
    /// It may be otherwise later.
    pub fn is_retriable(&self) -> bool {
        match self {
            LakeError::Store(error) => !matches!(error, object_store::Error::NotSupported { .. }),
            LakeError::Disk(_) => true,
            LakeError::Address { .. } | LakeError::Unknown { .. } | LakeError::Encode(_) => false,
        }
    }

    /// The object is not there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, LakeError::Store(object_store::Error::NotFound { .. }))
    }
}

/// An object that does not say what it should, or is not there; what it held is lost, the rest goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{object}: {reason}")]
pub struct Damage {
    /// Its name in the lake.
    pub object: String,
    /// What about it.
    pub reason: String,
}

impl Damage {
    /// Of an object.
    pub(super) fn new(object: impl ToString, reason: impl Into<String>) -> Self {
        Damage { object: object.to_string(), reason: reason.into() }
    }
}
