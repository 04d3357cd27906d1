//! An environment beside its deployments: status, declaration, secrets, lock and logs.

pub mod environments;
pub mod lock;
pub mod logs;
pub mod secrets;
pub mod status;
