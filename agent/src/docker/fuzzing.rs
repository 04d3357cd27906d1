//! The check of archives, for its fuzz target in `tests/fuzz`. Only a build with `cfg(fuzzing)` has this module.

use std::io;

use bytes::Bytes;
use futures::Stream;

use super::archive;

/// The parts of an archive that Docker would get, with an error at the end if it would not get all of them.
pub fn refuse_names(
    parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    archive::refuse_names(parts)
}
