//! A question before something that cannot be taken back.

use crate::context::{Context, read_line};
use crate::failure::{Failure, Kind, Result};

pub(super) fn confirm(context: &Context) -> Result<()> {
    context.output.remark("go on? Write yes:");
    match read_line()?.as_str() {
        "yes" => Ok(()),
        _ => Err(Failure::new(Kind::Refused, "nothing was changed").why("the answer was not yes")),
    }
}
