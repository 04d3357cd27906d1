//! Who may reach what: certificates, tokens, roots and secrets.

mod revocation;
mod root_rotation;
mod root_rotation_in_cluster;
mod secrets;
mod tokens;
