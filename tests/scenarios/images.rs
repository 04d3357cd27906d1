//! How an image gets to the hosts: built, pulled from a registry, or sent.

mod build;
mod registry;
mod sent_by_host;
mod sent_by_operator;
mod sent_in_cluster;
