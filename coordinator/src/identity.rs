//! Authentication: certificates, the authority that signs them, its roots, join tokens and operators.

pub mod authority;
pub mod certificate;
pub mod operators;
pub mod roots;
pub mod rotation;
pub mod tokens;
