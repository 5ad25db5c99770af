//! Builds records as the kernel half lays them out, in memory that is used again for each.

use tw_model::raw::{ExecBody, Header, Str};
use zerocopy::{Immutable, IntoBytes};

/// Longest path, as the kernel half cuts it.
pub(super) const PATH: usize = 4_096;
/// Longest arguments or environment, as the kernel half cuts them.
pub(super) const ARGS: usize = 4_096;
/// Most of the first bytes sent, as the kernel half cuts them.
pub(super) const DATA: usize = 256;
/// Room for the longest record: seven texts.
const ROOM: usize = size_of::<Header>() + size_of::<ExecBody>() + 7 * PATH + 64;

/// One record at a time.
#[derive(Debug)]
pub(super) struct RecordBuffer {
    words: Vec<u64>,
    used: usize,
    flags: u16,
}

impl RecordBuffer {
    pub(super) fn new() -> Self {
        Self { words: vec![0; ROOM.div_ceil(8)], used: 0, flags: 0 }
    }

    /// Begins a record whose body takes `body` bytes.
    pub(super) fn begin(&mut self, body: usize) {
        self.used = size_of::<Header>() + body;
        self.flags = 0;
    }

    /// Appends a text, cut to `most` bytes.
    pub(super) fn text(&mut self, text: &[u8], most: usize) -> Str {
        if text.is_empty() {
            return Str::default();
        }
        let off = self.used;
        let cut = self.append(text, most);
        Str { off: off as u16, len: cut as u16 }
    }

    /// Appends several texts as one, cut to `most` bytes.
    pub(super) fn joined<const N: usize>(&mut self, texts: [&[u8]; N], most: usize) -> Str {
        let off = self.used;
        for text in texts {
            let left = most - (self.used - off).min(most);
            self.append(text, left);
        }
        if self.used == off { Str::default() } else { Str { off: off as u16, len: (self.used - off) as u16 } }
    }

    fn append(&mut self, text: &[u8], most: usize) -> usize {
        let cut = text.get(..most).unwrap_or(text);
        if cut.len() < text.len() {
            self.flags |= tw_model::raw::F_TRUNCATED;
        }
        match self.words.as_mut_bytes().get_mut(self.used..self.used + cut.len()) {
            Some(place) => place.copy_from_slice(cut),
            // Seven texts have room; there are no more.
            None => return 0,
        }
        self.used += cut.len();
        cut.len()
    }

    /// Writes header and body; the record.
    pub(super) fn finish<B: IntoBytes + Immutable>(&mut self, header: &Header, body: &B) -> &[u8] {
        let size = self.used.next_multiple_of(8);
        let header = Header { size: size as u16, flags: header.flags | self.flags, ..*header };
        let bytes = self.words.as_mut_bytes();
        let (head, rest) = bytes.split_at_mut(size_of::<Header>());
        head.copy_from_slice(header.as_bytes());
        if let Some(place) = rest.get_mut(..size_of::<B>()) {
            place.copy_from_slice(body.as_bytes());
        }
        if let Some(pad) = bytes.get_mut(self.used..size) {
            pad.fill(0);
        }
        bytes.get(..size).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tw_model::EventKind;
    use tw_model::raw::{Encoder, F_TRUNCATED, FileBody, Raw};

    #[test]
    fn records_are_those_of_the_encoder_byte_for_byte() {
        let header = Header { kind: EventKind::Openat as u16, pid: 7, time: 9, ..Header::default() };
        let mut buffer = RecordBuffer::new();
        // What was in the buffer before must not show.
        buffer.begin(size_of::<FileBody>());
        buffer.text(&[0xff; PATH], PATH);
        buffer.finish(&header, &FileBody::default());
        for texts in [["/etc/passwd", "passwd"], ["x", ""], ["", ""]] {
            let mut encoder = Encoder::new(&header, size_of::<FileBody>());
            buffer.begin(size_of::<FileBody>());
            let mut ours = FileBody { flags: 3, ..FileBody::default() };
            let mut theirs = ours;
            (ours.path, ours.raw) =
                (buffer.text(texts[0].as_bytes(), PATH), buffer.joined([texts[1].as_bytes()], PATH));
            for (text, place) in texts.iter().zip([&mut theirs.path, &mut theirs.raw]) {
                if !text.is_empty() {
                    *place = encoder.text(text.as_bytes());
                }
            }
            assert_eq!(buffer.finish(&header, &ours), encoder.finish(&theirs));
        }
    }

    #[test]
    fn the_longest_record_has_room_and_says_that_it_was_cut() {
        let mut buffer = RecordBuffer::new();
        buffer.begin(size_of::<ExecBody>());
        let long = [b'x'; 70_000];
        let mut body = ExecBody::default();
        for text in
            [&mut body.exepath, &mut body.filename, &mut body.interp, &mut body.cwd, &mut body.args, &mut body.env]
        {
            *text = buffer.text(&long, PATH);
        }
        body.cgroup_name = buffer.joined([b"abc", &long, b"y"], PATH);
        let header = Header { kind: EventKind::Execve as u16, ..Header::default() };
        let raw = Raw::parse(buffer.finish(&header, &body)).unwrap();
        assert_eq!(raw.header.flags, F_TRUNCATED);
        let exec = raw.exec().unwrap();
        assert_eq!((raw.text(exec.env).len(), &raw.text(exec.cgroup_name)[..4]), (PATH, b"abcx".as_slice()));
        assert_eq!(exec.cgroup_name.len as usize, PATH);
    }
}
