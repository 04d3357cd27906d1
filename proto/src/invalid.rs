//! Why a wire message is not valid in the model.

/// The field by its path, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {what}")]
pub struct Invalid {
    pub field: &'static str,
    pub what: String,
}

impl Invalid {
    pub fn missing(field: &'static str) -> Self {
        Self { field, what: "is missing".to_owned() }
    }

    pub fn because(field: &'static str, error: impl std::fmt::Display) -> Self {
        Self { field, what: format!("is invalid: {error}") }
    }
}

impl From<Invalid> for tonic::Status {
    fn from(invalid: Invalid) -> Self {
        tonic::Status::invalid_argument(invalid.to_string())
    }
}
