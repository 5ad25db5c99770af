//! A record written anew with some of its strings replaced, for what must not keep them as they were.

use std::borrow::Cow;

use zerocopy::{Immutable, IntoBytes};

use super::{Body, Encoder, F_TRUNCATED, Raw, Str, attr};

/// Which string of a record it is; named as the members of the bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as the members of the bodies")]
pub enum Slot {
    Exepath,
    Filename,
    Interp,
    Cwd,
    Args,
    Env,
    CgroupName,
    Path,
    RawPath,
    Base,
    RawPath2,
    Base2,
    Extra,
    Root,
    Data,
    Text,
    Text2,
    Text3,
}

/// Most strings that a body has.
const MOST: usize = 7;

impl<'a> Raw<'a> {
    /// The record with each string replaced by what `replace` makes of it; every other byte of header and body stays.
    ///
    /// A record holds at most 64 KiB. If the new strings need more, the longest are cut, and [`F_TRUNCATED`] (for an
    /// exec also [`attr::ARGS_TRUNCATED`], [`attr::ENV_TRUNCATED`]) says so. [`Raw::parse`] accepts the result, copied
    /// to where it is aligned.
    pub fn rewrite(&self, mut replace: impl FnMut(Slot, &'a [u8]) -> Cow<'a, [u8]>) -> Vec<u8> {
        let mut tail = Tail { raw: self, cut: false, texts: [const { None }; MOST], used: 0 };
        match self.body {
            Body::Fork(body) => tail.finish(*body),
            Body::Exit(body) => tail.finish(*body),
            Body::Resource(body) => tail.finish(*body),
            Body::Exec(body) => {
                let mut body = *body;
                for (slot, text) in [
                    (Slot::Exepath, body.exepath),
                    (Slot::Filename, body.filename),
                    (Slot::Interp, body.interp),
                    (Slot::Cwd, body.cwd),
                    (Slot::Args, body.args),
                    (Slot::Env, body.env),
                    (Slot::CgroupName, body.cgroup_name),
                ] {
                    tail.push(slot, text, &mut replace);
                }
                let (mut out, strs) = tail.encode(size_of_val(&body));
                [body.exepath, body.filename, body.interp, body.cwd, body.args, body.env, body.cgroup_name] =
                    strs.map(|(text, _)| text);
                if strs[4].1 {
                    body.attrs |= attr::ARGS_TRUNCATED;
                }
                if strs[5].1 {
                    body.attrs |= attr::ENV_TRUNCATED;
                }
                flag(&mut out, tail.cut);
                out.finish(&body)
            }
            Body::File(body) => {
                let mut body = *body;
                for (slot, text) in [
                    (Slot::Path, body.path),
                    (Slot::RawPath, body.raw),
                    (Slot::Base, body.base),
                    (Slot::RawPath2, body.raw2),
                    (Slot::Base2, body.base2),
                    (Slot::Extra, body.extra),
                    (Slot::Root, body.root),
                ] {
                    tail.push(slot, text, &mut replace);
                }
                let (mut out, strs) = tail.encode(size_of_val(&body));
                [body.path, body.raw, body.base, body.raw2, body.base2, body.extra, body.root] =
                    strs.map(|(text, _)| text);
                flag(&mut out, tail.cut);
                out.finish(&body)
            }
            Body::Sock(body) => {
                let mut body = *body;
                for (slot, text) in [(Slot::Path, body.path), (Slot::RawPath, body.raw), (Slot::Data, body.data)] {
                    tail.push(slot, text, &mut replace);
                }
                let (mut out, strs) = tail.encode(size_of_val(&body));
                [body.path, body.raw, body.data, ..] = strs.map(|(text, _)| text);
                flag(&mut out, tail.cut);
                out.finish(&body)
            }
            Body::Call(body) => {
                let mut body = *body;
                for (slot, text) in [(Slot::Text, body.text), (Slot::Text2, body.text2), (Slot::Text3, body.text3)] {
                    tail.push(slot, text, &mut replace);
                }
                let (mut out, strs) = tail.encode(size_of_val(&body));
                [body.text, body.text2, body.text3, ..] = strs.map(|(text, _)| text);
                flag(&mut out, tail.cut);
                out.finish(&body)
            }
        }
    }
}

/// The strings of the record to be.
struct Tail<'r, 'a> {
    raw: &'r Raw<'a>,
    cut: bool,
    texts: [Option<Cow<'a, [u8]>>; MOST],
    used: usize,
}

impl<'a> Tail<'_, 'a> {
    fn push(&mut self, slot: Slot, text: Str, replace: &mut impl FnMut(Slot, &'a [u8]) -> Cow<'a, [u8]>) {
        let text = self.raw.text(text);
        self.texts[self.used] = (!text.is_empty()).then(|| replace(slot, text));
        self.used += 1;
    }

    /// Writes the strings, shortest first so that the longest is the one that is cut, equal ones once. For each: where
    /// it lies, and whether it was cut.
    fn encode(&mut self, body_size: usize) -> (Encoder, [(Str, bool); MOST]) {
        let mut order: [usize; MOST] = std::array::from_fn(|index| index);
        order.sort_by_key(|index| self.texts[*index].as_ref().map_or(0, |text| text.len()));
        let mut out = Encoder::new(self.raw.header, body_size);
        let mut strs = [(Str::default(), false); MOST];
        for (rank, &index) in order.iter().enumerate() {
            let Some(text) = self.texts[index].as_deref().filter(|text| !text.is_empty()) else { continue };
            let same = rank
                .checked_sub(1)
                .map(|before| order[before])
                .filter(|&before| self.texts[before].as_deref() == Some(text));
            strs[index] = if let Some(same) = same {
                strs[same]
            } else {
                let written = out.text(text);
                (written, usize::from(written.len) < text.len())
            };
            self.cut |= strs[index].1;
        }
        (out, strs)
    }

    fn finish<B: IntoBytes + Immutable>(&self, body: B) -> Vec<u8> {
        Encoder::new(self.raw.header, size_of::<B>()).finish(&body)
    }
}

fn flag(out: &mut Encoder, cut: bool) {
    if cut {
        out.flag(F_TRUNCATED);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CallBody, ExecBody, ExitBody, FileBody, Header, ResourceBody, SockBody, from_words, to_words};
    use super::*;
    use crate::event::{EVENTS, EventKind, Shape};
    use proptest::prelude::*;

    fn exec(args: &[u8], env: &[u8]) -> Vec<u64> {
        let header = Header { kind: EventKind::Execve as u16, pid: 7, ret: 3, flags: 1, ..Header::default() };
        let mut out = Encoder::new(&header, size_of::<ExecBody>());
        let body = ExecBody {
            ino: 5,
            exepath: out.text(b"/bin/true"),
            args: out.text(args),
            env: out.text(env),
            cgroup_name: out.text(b"pod"),
            ..ExecBody::default()
        };
        to_words(&out.finish(&body))
    }

    #[test]
    fn one_string_is_replaced_and_the_rest_stays() {
        let words = exec(b"true\0secret\0", b"A=1\0");
        let raw = Raw::parse(from_words(&words)).unwrap();
        let new = to_words(&raw.rewrite(|slot, text| match slot {
            Slot::Args => Cow::Borrowed(b"true\0-\0"),
            _ => Cow::Borrowed(text),
        }));
        let new = Raw::parse(from_words(&new)).unwrap();
        let (old_body, body) = (raw.exec().unwrap(), new.exec().unwrap());
        assert_eq!((new.text(body.args), new.text(body.env)), (b"true\0-\0".as_slice(), b"A=1\0".as_slice()));
        assert_eq!((new.text(body.exepath), new.text(body.cgroup_name)), (b"/bin/true".as_slice(), b"pod".as_slice()));
        assert_eq!((body.filename, body.ino, body.attrs), (Str::default(), old_body.ino, 0));
        assert_eq!(Header { size: 0, ..*new.header }, Header { size: 0, ..*raw.header });
    }

    #[test]
    fn what_no_longer_fits_is_cut_and_says_so() {
        let words = exec(b"true\0", &[b'e'; 2000]);
        let raw = Raw::parse(from_words(&words)).unwrap();
        let new = to_words(&raw.rewrite(|slot, text| match slot {
            Slot::Env => Cow::Owned(vec![b'x'; 70_000]),
            _ => Cow::Borrowed(text),
        }));
        let new = Raw::parse(from_words(&new)).unwrap();
        let body = new.exec().unwrap();
        assert_eq!((new.text(body.args), new.text(body.cgroup_name)), (b"true\0".as_slice(), b"pod".as_slice()));
        assert!(body.env.len > 64_000);
        assert_eq!((new.header.flags, body.attrs), (1 | F_TRUNCATED, attr::ENV_TRUNCATED));
    }

    fn record(kind: usize, texts: &[Vec<u8>]) -> Vec<u64> {
        let header = Header { kind: kind as u16, pid: 7, ..Header::default() };
        let texts: [&[u8]; MOST] = std::array::from_fn(|index| texts[index].as_slice());
        let [a, b, c, d, e, f, g] = texts;
        to_words(&match EVENTS[kind].shape {
            Shape::Fork | Shape::Exit => Encoder::new(&header, size_of::<ExitBody>() + 40).finish(&ExitBody::default()),
            Shape::Resource => Encoder::new(&header, size_of::<ResourceBody>()).finish(&ResourceBody::default()),
            Shape::Exec => {
                let mut out = Encoder::new(&header, size_of::<ExecBody>());
                let [exepath, filename, interp, cwd] = [a, b, c, d].map(|text| out.text(text));
                let [args, env, cgroup_name] = [e, f, g].map(|text| out.text(text));
                out.finish(&ExecBody { exepath, filename, interp, cwd, args, env, cgroup_name, ..ExecBody::default() })
            }
            Shape::File => {
                let mut out = Encoder::new(&header, size_of::<FileBody>());
                let [path, raw, base, raw2, base2, extra] = [a, b, c, d, e, f].map(|text| out.text(text));
                out.finish(&FileBody { path, raw, base, raw2, base2, extra, ..FileBody::default() })
            }
            Shape::Sock => {
                let mut out = Encoder::new(&header, size_of::<SockBody>());
                let [path, raw, data] = [a, b, c].map(|text| out.text(text));
                out.finish(&SockBody { path, raw, data, ..SockBody::default() })
            }
            Shape::Call => {
                let mut out = Encoder::new(&header, size_of::<CallBody>());
                let text = out.text(a);
                out.finish(&CallBody { text, args: [1, 2, 3, 4, 5, 6], ..CallBody::default() })
            }
        })
    }

    proptest! {
        #[test]
        fn a_record_of_any_kind_rewritten_to_itself_says_the_same(
            kind in 0..EVENTS.len(),
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), MOST),
            grow in 0_usize..12_000,
        ) {
            let words = record(kind, &texts);
            let raw = Raw::parse(from_words(&words)).unwrap();
            let same = to_words(&raw.rewrite(|_, text| Cow::Borrowed(text)));
            let same = Raw::parse(from_words(&same)).unwrap();
            let says = |raw: &Raw<'_>| raw.strings().map(|text| raw.text(text).to_vec());
            prop_assert_eq!(says(&raw), says(&same));
            prop_assert_eq!(Header { size: 0, ..*raw.header }, Header { size: 0, ..*same.header });
            let grown = to_words(&raw.rewrite(|_, _| Cow::Owned(vec![b'x'; grow])));
            prop_assert!(Raw::parse(from_words(&grown)).is_ok());
        }
    }
}
