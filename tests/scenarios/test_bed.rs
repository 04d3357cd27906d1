//! The test bed itself: PostgreSQL, nginx, Docker and etcd, as every scenario uses them.

mod etcd;
mod whole;
