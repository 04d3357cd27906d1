//! Hosts: what the doctor finds on them, and which of them PostgreSQL lets in.

mod doctor;
mod pg_hba;
