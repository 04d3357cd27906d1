//! The sizes of the wire contract. Who sends keeps them, and who receives checks them.

/// The largest message that is received. What is asked or told is a declaration, a part of an image or the log of a
/// step, and nothing larger.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The text of one answer with lines of a log, in all its messages. Another coordinator passes it on in one message.
pub const LOG_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The lines of one answer: each takes some bytes beside its text.
pub const LOG_LINES_MAX: usize = 100_000;

/// The last line of output of a running step, for those who watch.
pub const PROGRESS_BYTES_MAX: usize = 1024;

/// How large `message` is when it is sent.
pub fn message_bytes(message: &impl prost::Message) -> usize {
    message.encoded_len()
}
