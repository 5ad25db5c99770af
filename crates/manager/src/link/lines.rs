//! Lines of a bounded length from a stream.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tw_model::link::MAX_LINE;

/// Bytes that are asked for at once.
const STEP: usize = 64 << 10;

/// Why there is no next line.
#[derive(Debug)]
pub(super) enum LineError {
    /// The stream ended, perhaps within a line.
    Closed,
    /// The line is longer than [`MAX_LINE`].
    TooLong,
    /// The stream broke.
    Broken(std::io::Error),
}

/// A stream as lines.
pub(super) struct Lines<R> {
    stream: R,
    bytes: Vec<u8>,
    /// Where the next line begins.
    begin: usize,
    /// Up to where there is no end of line.
    searched: usize,
    limit: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, bytes: Vec::new(), begin: 0, searched: 0, limit: MAX_LINE }
    }

    /// The next line, without its end. When the future is dropped, nothing is lost.
    pub(super) async fn next(&mut self) -> Result<&[u8], LineError> {
        loop {
            let rest = &self.bytes[self.searched..];
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let (begin, end) = (self.begin, self.searched + at);
                (self.begin, self.searched) = (end + 1, end + 1);
                if end - begin > self.limit {
                    return Err(LineError::TooLong);
                }
                return Ok(&self.bytes[begin..end]);
            }
            self.searched = self.bytes.len();
            if self.bytes.len() - self.begin > self.limit {
                return Err(LineError::TooLong);
            }
            self.bytes.drain(..self.begin);
            self.searched -= self.begin;
            self.begin = 0;
            // What one long line took is not kept for ever.
            if self.bytes.is_empty() && self.bytes.capacity() > 4 * STEP {
                self.bytes.shrink_to(STEP);
            }
            self.bytes.reserve(STEP);
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) => return Err(LineError::Closed),
                Ok(_) => {}
                Err(error) => return Err(LineError::Broken(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_out_as_they_went_in_and_long_ones_end_it() {
        let text = b"one\n\ntwo three\nno end".as_slice();
        let mut lines = Lines { limit: 9, ..Lines::new(text) };
        for line in [&b"one"[..], b"", b"two three"] {
            assert_eq!(lines.next().await.unwrap(), line);
        }
        assert!(matches!(lines.next().await, Err(LineError::Closed)));
        let mut lines = Lines { limit: 8, ..Lines::new(text) };
        lines.next().await.unwrap();
        lines.next().await.unwrap();
        assert!(matches!(lines.next().await, Err(LineError::TooLong)));
        let endless = tokio::io::repeat(b'x');
        let mut lines = Lines { limit: 1 << 20, ..Lines::new(endless) };
        assert!(matches!(lines.next().await, Err(LineError::TooLong)));
        assert!(lines.bytes.capacity() < 4 << 20);
    }
}
